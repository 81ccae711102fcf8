"""Run a probe from the command line: load the models, ask them, set the controls beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

from detect.finding import Plan
from detect.planning.effects import inherited_effect
from detect.scoring.scorers import choose_scorer
from detect.suspect.asking import Asked, AskingOptions, ask, plan_asking, spending
from detect.suspect.beforehand import Beforehand, count_own_texts, refuse_weak_hash
from detect.suspect.distributions import (
    WEIGHTS_EFFECT,
    assess_foreign_reading,
    assess_reading,
    assess_reports,
    refuse_without_context,
)
from detect.suspect.exchanges import ReadingText, SuspectAnswer
from detect.suspect.inheritance import TEXT_EFFECT, Outcome, assess_answers
from detect.suspect.marked_reading import assess_marked_reading
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.opening import is_replay, open_weights
from detect.suspect.probe import Access, Control, ProbeResult, conclude
from detect.suspect.reading_plan import ReadingPlan
from detect.suspect.referring import check_same_tokenizer
from detect.suspect.replay import ReplaySuspect
from detect.suspect.reported import reported_pairs
from detect.suspect.used import refuse_own_reference, what_was_used
from watermark.config import WatermarkConfig
from watermark.generation.sampling import Sampling
from watermark.keys import Key
from watermark.storage.files import read_prompts
from watermark.tokens import TextTokenizer, load_tokenizer

__all__ = ["ProbeRequest", "beforehand_of", "planned_asking", "run_probe"]

Progress = Callable[[int | None, str, str], AbstractContextManager[Any]]


@final
@dataclass(frozen=True)
class ProbeRequest:
    """What is to be probed, and how; the fields are the command's options."""

    suspect: str
    access: Access
    controls: tuple[str, ...]
    reference: str | None
    config: WatermarkConfig
    key: Key
    tokenizer: str
    alpha: float
    n_decoys: int
    seed: int
    score: str | None
    max_new_tokens: int
    temperature: float
    top_k: int
    asking: AskingOptions = field(default_factory=AskingOptions)
    own_texts: Path | None = None
    marked_reading: Path | None = None

    @property
    def sampling(self) -> dict[str, Any]:
        """How answers are drawn: arguments of `Sampling`."""
        return {
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "seed": self.seed,
        }

    @property
    def plan(self) -> Plan:
        """The statistical half of it."""
        # Reports tell more than a drawn token and less than the whole distribution.
        planned: Literal["text", "weights"] = "weights" if self.access == "weights" else "text"
        known = inherited_effect(self.config, planned, 1.0).size
        effect = min(TEXT_EFFECT if planned == "text" else WEIGHTS_EFFECT, known)
        plan = Plan(self.config, self.key, self.alpha, effect, self.n_decoys, self.seed)
        if self.access != "text":
            return plan
        scorer = choose_scorer(self.score, self.config.scheme, "inherited")
        return replace(plan, scorer=scorer)


def run_probe(
    request: ProbeRequest,
    prompts_path: str | None,
    reading_path: str | None,
    progress: Progress,
    announce: Callable[[str], object] = lambda line: None,
) -> ProbeResult:
    """Probe a suspect and its controls.

    Args:
        request: what and how.
        prompts_path: with text access, the prompts; None takes those of a recording.
        reading_path: with weights access, the reading texts.
        progress: makes progress bars.
        announce: told what endpoints will cost, before they are asked.

    Returns:
        The result.
    """
    _check(request)
    if request.access == "weights":
        found = _by_weights(request, reading_path, progress)
        return replace(found, used=_used(request, None))
    if prompts_path is None and is_replay(request.suspect):
        prompts = list(ReplaySuspect(Path(request.suspect)).prompts)
    else:
        prompts = list(read_prompts(prompts_path or "-"))
    found = _by_text(request, prompts, progress, announce)
    return replace(found, used=_used(request, prompts))


def _check(request: ProbeRequest) -> None:
    """Say what cannot be before anything is asked or read."""
    if request.access != "text":
        refuse_without_context(request.config)
        refuse_weak_hash(request.config)
    refuse_own_reference(request.suspect, request.reference)


def _used(request: ProbeRequest, prompts: Sequence[str] | None) -> dict[str, Any]:
    files = {"own_texts": request.own_texts, "marked_reading": request.marked_reading}
    return what_was_used(request.reference, files, prompts, request.sampling)


def _by_text(
    request: ProbeRequest,
    prompts: Sequence[str],
    progress: Progress,
    announce: Callable[[str], object],
) -> ProbeResult:
    tokenizer = load_tokenizer(request.tokenizer)
    beforehand = beforehand_of(request, tokenizer)
    planned = planned_asking(request, prompts, announce)

    def tested(asked: Asked) -> Outcome:
        with progress(len(prompts), f"asking {asked.registration.suspect}", "answer") as bar:
            answers = ask(asked, request.asking, bar.update)
        if request.access == "logprobs":
            return _by_reports(request.plan, tokenizer, prompts, answers, beforehand)
        with progress(None, "reading the answers", "tok") as bar:
            log_probs = beforehand.log_probs(
                tokenizer, prompts, answers, request.temperature, bar.update
            )
        return assess_answers(request.plan, tokenizer, answers, beforehand.counts, log_probs)

    controls = [Control(c.registration.suspect, "control", tested(c)) for c in planned[1:]]
    name = planned[0].registration.suspect
    return conclude(name, request.access, tested(planned[0]), controls, len(prompts))


def _by_reports(
    plan: Plan,
    tokenizer: TextTokenizer,
    prompts: Sequence[str],
    answers: Sequence[SuspectAnswer],
    beforehand: Beforehand,
) -> Outcome:
    pairs = reported_pairs(
        tokenizer,
        answers,
        plan.config.context_width,
        reference=beforehand.reference,
        reading=beforehand.reading(tokenizer, prompts, answers),
    )
    return assess_reports(plan, pairs, sum(len(tokenizer.encode(a.text)) for a in answers))


def planned_asking(
    request: ProbeRequest, prompts: Sequence[str], announce: Callable[[str], object]
) -> list[Asked]:
    """Say who is asked what, and announce what it may cost; refuse what costs too much."""
    planned = plan_asking(
        request.suspect, request.controls, prompts, Sampling(**request.sampling), request.asking
    )
    if estimate := spending(planned, request.asking.price):
        announce(f"endpoints: {estimate}")
        estimate.check(request.asking.max_cost)
    return planned


def beforehand_of(request: ProbeRequest, tokenizer: TextTokenizer) -> Beforehand:
    """Open the reference and count the own texts of a probe of answers, and check them."""
    counts = None
    if request.own_texts is not None:
        counts = count_own_texts(request.own_texts, tokenizer, request.plan)
    beforehand = Beforehand(counts, _opened_reference(request, tokenizer))
    if request.access == "text":
        beforehand.check(request.plan)
    return beforehand


def _opened_reference(
    request: ProbeRequest, tokenizer: TextTokenizer
) -> TransformersSuspect | None:
    if request.reference is None:
        return None
    reference = open_weights(request.reference)
    check_same_tokenizer(reference, tokenizer)
    return reference


def _by_weights(request: ProbeRequest, reading_path: str | None, progress: Progress) -> ProbeResult:
    read = ReadingPlan.opened(request, reading_path)

    def tested(name: str) -> tuple[Outcome, str]:
        model = open_weights(name)
        clean, note = read.clean_for(name, model)
        with progress(read.n_tokens(model), f"reading with {model.name}", "tok") as bar:
            return _read(read, model, clean, bar.update), note

    controls = [Control(Path(name).name, "control", *tested(name)) for name in request.controls]
    outcome, _ = tested(request.suspect)
    return conclude(
        Path(request.suspect).name,
        "weights",
        outcome,
        controls,
        read.n_texts,
        marked_texts=request.marked_reading is not None,
    )


def _read(
    read: ReadingPlan,
    model: TransformersSuspect,
    clean: TransformersSuspect | None,
    on_positions: Callable[[int], object],
) -> Outcome:
    plan, tokenizer = read.request.plan, read.tokenizer
    if read.request.marked_reading is not None:
        check_same_tokenizer(model, tokenizer)
        texts = [ReadingText(model.chat_ids(prompt), ids) for prompt, ids in read.marked]
        return assess_marked_reading(plan, tokenizer, model, clean, texts, on_positions)
    if not model.shares_tokenizer(tokenizer):
        return assess_foreign_reading(plan, tokenizer, model, clean, read.texts, on_positions)
    return assess_reading(plan, tokenizer, model, clean, read.texts_for(model), on_positions)
