"""Ask or read suspect and controls once, whatever the number of keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

from detect.suspect.answer_pairs import pool_answers
from detect.suspect.asking import Asked, ask
from detect.suspect.beforehand import count_own_texts, refuse_weak_hash
from detect.suspect.distributions import refuse_marked, refuse_without_context
from detect.suspect.exchanges import ReadingText, SuspectAnswer
from detect.suspect.foreign_reading import foreign_pairs
from detect.suspect.inheritance import pool_scorer
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.opening import is_replay, open_weights
from detect.suspect.probing import ProbeRequest, beforehand_of, planned_asking
from detect.suspect.reading import PairWeights, read_pairs
from detect.suspect.reading_plan import ReadingPlan
from detect.suspect.replay import ReplaySuspect
from detect.suspect.reported import reported_pairs
from detect.suspect.used import refuse_own_reference
from detect.tracing.models.under_keys import Heard, heard_of_answers, heard_of_pairs
from watermark.keys import Key
from watermark.storage.files import read_prompts
from watermark.tokens import check_fingerprint, load_tokenizer

__all__ = ["HeardModel", "Hearing", "hear"]

Progress = Callable[[int | None, str, str], AbstractContextManager[Any]]


class HeardModel(NamedTuple):
    """One model, and what was heard of it; the note says what differed from the suspect's test."""

    name: str
    heard: Heard
    note: str = ""


@final
@dataclass(frozen=True)
class Hearing:
    """Everything that is tested under the keys.

    Attributes:
        suspect: the suspect.
        controls: clean models.
        n_answers: answers or texts looked at.
        prompts: what was asked; None by weights.
    """

    suspect: HeardModel
    controls: tuple[HeardModel, ...]
    n_answers: int
    prompts: tuple[str, ...] | None


def hear(
    request: ProbeRequest,
    keys: Sequence[Key],
    prompts_path: str | None,
    reading_path: str | None,
    progress: Progress,
    announce: Callable[[str], object],
) -> Hearing:
    """Ask or read the suspect and its controls.

    Args:
        request: what and how; its key is the first of the family.
        keys: all of them: no reading text may be marked under any.
        prompts_path: by text, the prompts; None takes those of a recording.
        reading_path: by weights, the reading texts.
        progress: makes progress bars.
        announce: told what endpoints will cost, before they are asked.

    Returns:
        What was heard.

    Raises:
        ResultError: the reading texts are marked under one of the keys.
    """
    if request.access != "text":
        refuse_without_context(request.config)
        refuse_weak_hash(request.config)
    refuse_own_reference(request.suspect, request.reference)
    if request.access == "weights":
        return _read(request, keys, reading_path, progress)
    if prompts_path is None and is_replay(request.suspect):
        prompts = list(ReplaySuspect(Path(request.suspect)).prompts)
    else:
        prompts = list(read_prompts(prompts_path or "-"))
    return _ask(request, keys, prompts, progress, announce)


def _ask(
    request: ProbeRequest,
    keys: Sequence[Key],
    prompts: list[str],
    progress: Progress,
    announce: Callable[[str], object],
) -> Hearing:
    tokenizer = load_tokenizer(request.tokenizer)
    check_fingerprint(tokenizer, request.config.tokenizer)
    beforehand = beforehand_of(request, tokenizer)
    if request.own_texts is not None:
        # They must be free of every key's mark, whose contexts they would else weigh up.
        for key in keys:
            count_own_texts(request.own_texts, tokenizer, replace(request.plan, key=key))
    planned = planned_asking(request, prompts, announce)
    plan, h = request.plan, request.config.context_width

    def of(answers: Sequence[SuspectAnswer]) -> Heard:
        if request.access == "logprobs":
            reading = beforehand.reading(tokenizer, prompts, answers)
            found = reported_pairs(
                tokenizer, answers, h, reference=beforehand.reference, reading=reading
            )
            n_tokens = sum(len(tokenizer.encode(a.text)) for a in answers)
            return heard_of_pairs(plan, found, n_tokens)
        with progress(None, "reading the answers", "tok") as bar:
            log_probs = beforehand.log_probs(
                tokenizer, prompts, answers, request.temperature, bar.update
            )
        pairs = pool_answers(tokenizer, answers, h, plan.config.source, plan.config.reasoning)
        return heard_of_answers(plan, pairs, pool_scorer(plan, pairs, beforehand.counts, log_probs))

    def heard(asked: Asked) -> HeardModel:
        name = asked.registration.suspect
        with progress(len(prompts), f"asking {name}", "answer") as bar:
            return HeardModel(name, of(ask(asked, request.asking, bar.update)))

    controls = tuple(heard(asked) for asked in planned[1:])
    return Hearing(heard(planned[0]), controls, len(prompts), tuple(prompts))


def _read(
    request: ProbeRequest, keys: Sequence[Key], reading_path: str | None, progress: Progress
) -> Hearing:
    read = ReadingPlan.opened(request, reading_path)
    check_fingerprint(read.tokenizer, request.config.tokenizer)
    texts = [
        ReadingText((), tuple(ids.tolist()))
        for ids in read.tokenizer.encode_many([text for _, text in read.texts])
    ]
    for key in keys:
        refuse_marked(replace(request.plan, key=key), read.tokenizer, texts)
    n_tokens = sum(len(text.token_ids) for text in texts)

    def heard(spec: str) -> HeardModel:
        model = open_weights(spec)
        clean, note = read.clean_for(spec, model)
        with progress(read.n_tokens(model), f"reading with {model.name}", "tok") as bar:
            pairs = _pairs(read, model, clean, bar.update)
        return HeardModel(Path(spec).name, heard_of_pairs(request.plan, pairs, n_tokens), note)

    controls = tuple(heard(spec) for spec in request.controls)
    return Hearing(heard(request.suspect), controls, read.n_texts, None)


def _pairs(
    read: ReadingPlan,
    model: TransformersSuspect,
    clean: TransformersSuspect | None,
    on_positions: Callable[[int], object],
) -> PairWeights:
    h = read.request.config.context_width
    if not model.shares_tokenizer(read.tokenizer):
        return foreign_pairs(
            read.tokenizer, model, clean, read.texts, context_width=h, on_positions=on_positions
        )
    return read_pairs(
        model,
        clean,
        read.texts_for(model),
        context_width=h,
        special_ids=read.tokenizer.special_ids,
        on_positions=on_positions,
    )
