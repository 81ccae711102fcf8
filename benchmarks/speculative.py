"""Does the mark cost speculative decoding its accepted drafts? The real model, a real draft.

The target is SmolLM2-135M; the draft is the same model without some of its middle layers (no
smaller model of its family is at hand; it is hardly faster, so that times are not the question).
H0: at each place a marked draft is accepted with the probability of an unmarked one, which is the
sum of min(p, q) and is computed there. Accepted minus expected is then a martingale over the
places; intervals of ratios are 1.96 standard errors, taken over places.

Answers are of one length each. Three ways: marked by `watermark.generation.speculative`, not marked
at all, and transformers' assisted generation under `TransformersWatermark`, where the target leaves
one token. "replayed" takes the places of the unmarked answers, under fresh keys: more places for
little time, no coins, and schemes that tilt.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    LogitsProcessorList,
    MaxLengthCriteria,
    MinNewTokensLengthLogitsProcessor,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

from benchmarks.marked_texts import keys_of, prompts
from benchmarks.record import write_result
from detect.text import assess_tokens
from watermark.cli import progress
from watermark.config import WatermarkConfig, preset
from watermark.generation.loop import chat_prompt
from watermark.generation.speculative import Round, speculate
from watermark.generation.speculative_sampling import DRAFT, PLAIN, SpeculativeMarker
from watermark.keys import SecretKey
from watermark.models import load_model, resolve_model
from watermark.processor import TransformersWatermark
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.tokens import load_tokenizer

CONFIG = preset("default")
# A weight of the detector only: who drew is decided by acceptance.
ALPHAS = (0.1, 0.3, 0.5)
# Of 30 layers: without these four some 0.6 of the drafts are accepted.
LEFT_OUT = range(16, 20)


class Setting(NamedTuple):
    """What all ways share."""

    target: Any
    draft: Any
    end_id: int
    n_tokens: int
    n_drafts: int
    seed: int

    def processors(self, prompt: list[int], temperature: float) -> LogitsProcessorList:
        """Forbid an end, and warm or cool."""
        lasting = MinNewTokensLengthLogitsProcessor(len(prompt), self.n_tokens, self.end_id)
        return LogitsProcessorList([lasting, TemperatureLogitsWarper(temperature)])

    def answer(
        self, prompt: list[int], temperature: float, marker: SpeculativeMarker | None
    ) -> tuple[list[int], list[Round]]:
        """Answer by `speculate`."""
        rounds: list[Round] = []
        ids = speculate(
            self.target,
            self.draft,
            torch.tensor([prompt]),
            marker=marker,
            processors=self.processors(prompt, temperature),
            stops=StoppingCriteriaList([MaxLengthCriteria(len(prompt) + self.n_tokens)]),
            n_drafts=self.n_drafts,
            generator=torch.Generator().manual_seed(self.seed + (marker is None)),
            on_round=rounds.append,
        )
        return ids[0, len(prompt) :].tolist(), rounds

    def forced(
        self, prompt: list[int], temperature: float, key: SecretKey
    ) -> tuple[list[int], list[int]]:
        """Answer by transformers' assisted generation; the second list is tokens a pass."""
        self.draft.generation_config.num_assistant_tokens = self.n_drafts
        self.draft.generation_config.num_assistant_tokens_schedule = "constant"
        self.draft.generation_config.assistant_confidence_threshold = 0.0
        streamer = _Passes()
        torch.manual_seed(self.seed)
        ids = torch.tensor([prompt])
        out = self.target.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            assistant_model=self.draft,
            watermarking_config=TransformersWatermark(CONFIG, key),
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.n_tokens,
            min_new_tokens=self.n_tokens,
            eos_token_id=self.end_id,
            pad_token_id=self.end_id,
            streamer=streamer,
        )
        return out[0, len(prompt) :].tolist(), streamer.tokens[1:]


class _Passes(BaseStreamer):
    """transformers streams the prompt, and then what each pass of the target gave."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def put(self, value: Tensor) -> None:
        self.tokens.append(value.numel())

    def end(self) -> None:
        pass


def _without_layers(model: Any, left_out: Iterable[int]) -> Any:
    draft = copy.deepcopy(model)
    kept = [layer for i, layer in enumerate(draft.model.layers) if i not in left_out]
    for i, layer in enumerate(kept):
        layer.self_attn.layer_idx = i
    draft.model.layers = torch.nn.ModuleList(kept)
    draft.config.num_hidden_layers = len(kept)
    return draft


def _ratio(gained: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    ratio = float(gained.sum() / expected.sum())
    error = 1.96 * float(np.sqrt(((gained - ratio * expected) ** 2).sum()) / expected.sum())
    return {"ratio": ratio, "low_95": ratio - error, "high_95": ratio + error}


def _acceptance(rounds: list[Round]) -> dict[str, Any]:
    expected = np.array([o for r in rounds for o in r.overlaps])
    accepted = np.array([float(i < r.n_accepted) for r in rounds for i in range(len(r.overlaps))])
    return {
        "drafts_tested": len(accepted),
        "accepted": float(accepted.mean()),
        "expected": float(expected.mean()),
        "accepted_to_expected": _ratio(accepted, expected),
        "tokens_per_target_pass": sum(len(r.tokens) for r in rounds) / len(rounds),
    }


def _forced_acceptance(passes: list[list[int]], setting: Setting) -> dict[str, Any]:
    accepted = tested = 0
    for lengths in passes:
        left = setting.n_tokens
        for length in lengths:
            drafted = min(setting.n_drafts, left - 1)
            accepted, tested = accepted + length - 1, tested + min(length, drafted)
            left -= length
    n_passes = sum(map(len, passes))
    return {
        "drafts_tested": tested,
        "accepted": accepted / tested,
        "tokens_per_target_pass": len(passes) * setting.n_tokens / n_passes,
    }


def _log10_p(answers: list[list[int]], keys: list[SecretKey], tokenizer: Any) -> dict[str, Any]:
    found = {}
    for alpha in ALPHAS:
        config = WatermarkConfig(DualGumbel(alpha), CONFIG.context_width)
        found[f"alpha {alpha}"] = sorted(
            assess_tokens(
                np.array(ids), tokenizer=tokenizer, config=config, key=key
            ).finding.tail.log10_p
            for ids, key in zip(answers, keys, strict=False)
        )
    return {name: {"median": float(np.median(p)), "weakest": p[-1]} for name, p in found.items()}


@torch.no_grad()
def _laws(setting: Setting, prompt: list[int], ids: list[int], temperature: float) -> list[Tensor]:
    """Compute both models' logits at each place of an answer, shape (T, V)."""
    text = torch.tensor([prompt + ids])
    found = []
    for model in (setting.target, setting.draft):
        logits = model(text, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        logits[:, setting.end_id] = -torch.inf
        found.append(logits / temperature)
    return found


class _Place(NamedTuple):
    """A place of an unmarked answer at which a mark would be made, with both models' logits."""

    response: Tensor
    target: Tensor
    draft: Tensor


def _places(
    setting: Setting, asked: list[list[int]], answers: list[list[int]], temperature: float
) -> Iterator[_Place]:
    marker = SpeculativeMarker(CONFIG, SecretKey(bytes(32)))
    for prompt, ids in zip(asked, answers, strict=True):
        target, draft = _laws(setting, prompt, ids, temperature)
        for i in range(len(ids)):
            response = torch.tensor(ids[:i], dtype=torch.int64)
            if marker.step(response) is not PLAIN:
                yield _Place(response, target[i], draft[i])


def _replayed(places: list[_Place], rng: np.random.Generator, n_keys: int) -> dict[str, Any]:
    gained, expected = [], []
    for place in places:
        p, q = PLAIN.law(place.target), PLAIN.law(place.draft)
        chances = (p / q).clamp(max=1.0)
        for _ in range(n_keys):
            step = SpeculativeMarker(CONFIG, SecretKey(rng.bytes(32))).step(place.response)
            gained.append(float(chances[step.draw(q, DRAFT)]))
        expected += [float(torch.minimum(p, q).sum())] * n_keys
    return {
        "places": len(places),
        "keys_a_place": n_keys,
        "accepted": float(np.mean(gained)),
        "expected": float(np.mean(expected)),
        "accepted_to_expected": _ratio(np.array(gained), np.array(expected)),
    }


def _tilted(places: list[_Place], rng: np.random.Generator, name: str) -> dict[str, Any]:
    """Compare the overlap of tilted laws with that of the models' own."""
    tilted, own = [], []
    for place in places:
        step = SpeculativeMarker(preset(name), SecretKey(rng.bytes(32))).step(place.response)
        pairs = [(s.law(place.target), s.law(place.draft)) for s in (step, PLAIN)]
        overlaps = [float(torch.minimum(*pair).sum()) for pair in pairs]
        tilted.append(overlaps[0])
        own.append(overlaps[1])
    return {
        "places": len(places),
        "tilted": float(np.mean(tilted)),
        "own": float(np.mean(own)),
        "tilted_to_own": _ratio(np.array(tilted), np.array(own)),
    }


def _answered(
    setting: Setting,
    asked: list[list[int]],
    keys: list[SecretKey],
    temperature: float,
    n_forced: int,
) -> dict[str, list[Any]]:
    done: dict[str, list[Any]] = {"marked": [], "unmarked": [], "forced": []}
    with progress(2 * len(asked) + n_forced, f"temperature {temperature}", "answer") as bar:
        for prompt, key in zip(asked, keys, strict=True):
            marker = SpeculativeMarker(CONFIG, key)
            done["marked"].append(setting.answer(prompt, temperature, marker))
            done["unmarked"].append(setting.answer(prompt, temperature, None))
            bar.update(2)
        for prompt, key in zip(asked[:n_forced], keys, strict=False):
            done["forced"].append(setting.forced(prompt, temperature, key))
            bar.update()
    return done


def _measured(
    setting: Setting,
    asked: list[list[int]],
    keys: list[SecretKey],
    temperature: float,
    n_forced: int,
    n_keys: int,
    tokenizer: Any,
) -> dict[str, Any]:
    done = _answered(setting, asked, keys, temperature, n_forced)
    answers = {way: [ids for ids, _ in results] for way, results in done.items()}
    found: dict[str, Any] = {
        way: _acceptance([r for _, rounds in done[way] for r in rounds])
        for way in ("marked", "unmarked")
    }
    found["forced"] = _forced_acceptance([passes for _, passes in done["forced"]], setting)
    for way in ("marked", "forced"):
        found[way]["log10_p"] = _log10_p(answers[way], keys, tokenizer)
    places = list(_places(setting, asked, answers["unmarked"], temperature))
    rng = np.random.default_rng([setting.seed, round(100 * temperature)])
    found["replayed"] = _replayed(places, rng, n_keys)
    for name in ("red-green", "tournament"):
        found[f"replayed {name}"] = _tilted(places[::4], rng, name)
    return found


@click.command()
@click.option("--prompts", "n_prompts", default=3, show_default=True)
@click.option("--forced", "n_forced", default=1, show_default=True, help="Prompts of that way.")
@click.option("--tokens", default=200, show_default=True)
@click.option("--drafts", default=3, show_default=True)
@click.option("--keys", "n_keys", default=3, show_default=True, help="A replayed place.")
@click.option("--temperature", default=1.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    n_prompts: int,
    n_forced: int,
    tokens: int,
    drafts: int,
    n_keys: int,
    temperature: float,
    seed: int,
) -> None:
    """Compare acceptance with and without the mark."""
    folder = resolve_model("smollm2")
    target, chat = load_model(folder), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer, keys = load_tokenizer(folder), keys_of(n_prompts, seed)
    asked = [chat_prompt(chat, text) for text in prompts(n_prompts, seed)]
    draft = _without_layers(target, LEFT_OUT)
    setting = Setting(target, draft, chat.eos_token_id, tokens, drafts, seed)
    measured: dict[str, Any] = {
        "temperature": temperature,
        "answers": n_prompts,
        "tokens": tokens,
        "drafts_a_round": drafts,
        "draft_without_layers": list(LEFT_OUT),
    }
    measured |= _measured(setting, asked, keys, temperature, n_forced, n_keys, tokenizer)
    click.echo(str(measured))
    case = f"temperature {temperature}"
    click.echo(f"wrote {write_result('speculative', seed=seed, measured=measured, case=case)}")


if __name__ == "__main__":
    main()
