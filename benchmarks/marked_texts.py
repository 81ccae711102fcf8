"""Texts of the real model, each marked under a key of its own: what several benchmarks test.

The model answers from its 50 likeliest tokens and may not end, so that every text
has the same length. Drawn once and kept in the cache folder: `python -m benchmarks.marked_texts`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, final

import click
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from watermark.config import PRESETS, WatermarkConfig, preset
from watermark.keys import SecretKey

__all__ = ["N_TEXTS", "N_TOKENS", "MarkedText", "keys_of", "marked_texts", "prompts"]

N_TEXTS, N_TOKENS = 400, 500
_BATCH = 100
_TOP_K = 50
_TASKS = (
    "Write a long story about {}.", "Explain {} to a curious child, step by step.",
    "Write a detailed blog post about {}.", "Describe the history of {} for a magazine.",
    "Write a dialogue between two friends about {}.", "Give long, practical advice about {}.",
    "Write a speech about {}.", "Compare the good and the bad sides of {}, at length.",
)  # fmt: skip
_TOPICS = (
    "sailing alone", "bread", "the moon", "an old library", "bicycles", "learning to swim", "bees",
    "a city at night", "volcanoes", "friendship", "making furniture", "the first railways",
    "mountain weather", "a lost dog", "chess", "tea", "growing tomatoes", "lighthouses", "robots",
    "a small theatre", "writing letters", "the desert", "being a nurse", "whales", "market days",
    "old maps", "clocks", "painting a house", "winter sports", "public parks", "the violin",
    "rivers", "cooking for many guests", "glass", "night trains", "paper", "kites", "a new school",
    "fishing villages", "the postal service", "owls", "coffee houses", "bridges", "salt",
    "moving to another country", "photography", "wool", "forests", "running a small shop", "stars",
)  # fmt: skip


@final
@dataclass(frozen=True)
class MarkedText:
    """One text.

    Attributes:
        prompt_ids: int64, shape (P,), the formatted prompt.
        token_ids: int64, shape (T,), the text.
        log_probs: float64, shape (T,), natural log of each token's probability under the unmarked
            model at the sampler's temperature, not truncated.
        key: what marks it; for texts without a mark, a fresh one.
    """

    prompt_ids: NDArray[np.int64]
    token_ids: NDArray[np.int64]
    log_probs: NDArray[np.float64]
    key: SecretKey


class Drawing(NamedTuple):
    """How texts are drawn; decides where they are kept."""

    n_texts: int
    n_tokens: int
    temperature: float
    seed: int

    def cached(self, config: WatermarkConfig) -> Path:
        """Tell where the texts of a config are kept."""
        from watermark.models import default_cache

        what: list[Any] = [
            config.fingerprint,
            self.n_texts,
            self.n_tokens,
            self.seed,
        ]
        what += [_TOP_K, _BATCH, *_TASKS, *_TOPICS]
        what += [self.temperature] if self.temperature != 1.0 else []
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
        return default_cache() / "benchmarks" / f"texts-{digest}.npz"


def prompts(n: int, seed: int) -> list[str]:
    """List n distinct prompts, at most 400, in an order that the seed decides."""
    combinations = [task.format(topic) for task, topic in product(_TASKS, _TOPICS)]
    order = np.random.default_rng(seed).permutation(len(combinations))
    return [combinations[i] for i in order[:n]]


def keys_of(n: int, seed: int) -> list[SecretKey]:
    """Derive n keys from a seed: in use a key is secret, here the run must be repeatable."""
    rng = np.random.default_rng([seed, 1])
    return [SecretKey(rng.bytes(32)) for _ in range(n)]


def marked_texts(
    preset_name: str | None,
    *,
    n_texts: int = N_TEXTS,
    n_tokens: int = N_TOKENS,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[MarkedText]:
    """Draw texts, or read those drawn before.

    Args:
        preset_name: of `watermark.config.PRESETS`; None for texts that depend on none of their
            keys: those of "gumbel", whose own keys are thrown away (one text each, unbiased, so
            that they have the unmarked model's distribution) and replaced by fresh ones. Never
            test text i of these under the key of text i of a preset with the same seed.
        n_texts: how many, at most 400.
        n_tokens: tokens of each.
        temperature: of the sampler.
        seed: of prompts, keys and sampler.

    Returns:
        The texts.
    """
    if preset_name is None:
        texts = marked_texts(
            "gumbel", n_texts=n_texts, n_tokens=n_tokens, temperature=temperature, seed=seed
        )
        fresh = keys_of(n_texts, seed + 1_000)
        return [replace(text, key=key) for text, key in zip(texts, fresh, strict=True)]
    config, drawing = preset(preset_name), Drawing(n_texts, n_tokens, temperature, seed)
    path = drawing.cached(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Benchmarks started side by side draw the same texts once.
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _keep(path, config, drawing)
    with np.load(path, allow_pickle=False) as kept:
        names = ("prompt_ids", "n_prompt", "token_ids", "log_probs")
        columns = [kept[name] for name in names]
        return [
            MarkedText(p[:n].astype(np.int64), ids.astype(np.int64), logs.astype(np.float64), key)
            for p, n, ids, logs, key in zip(*columns, keys_of(n_texts, seed), strict=True)
        ]


def _keep(path: Path, config: WatermarkConfig, drawing: Drawing) -> None:
    # numpy adds .npz to any other name.
    temporary = path.with_suffix(".part.npz")
    drawn: dict[str, Any] = _draw(config, drawing)
    np.savez(temporary, **drawn)
    temporary.replace(path)


def _draw(config: WatermarkConfig, drawing: Drawing) -> dict[str, NDArray[Any]]:
    from transformers import AutoTokenizer

    from watermark.cli import progress
    from watermark.generation.loop import chat_prompt
    from watermark.models import load_model, resolve_model

    folder = resolve_model("smollm2")
    model, chat = load_model(folder), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    n, seed = drawing.n_texts, drawing.seed
    asked = [chat_prompt(chat, text) for text in prompts(n, seed)]
    keys, parts = keys_of(n, seed), []
    with progress(n * drawing.n_tokens, "drawing texts", "tok") as bar:
        for start in range(0, n, _BATCH):
            rows = slice(start, start + _BATCH)
            batch = _Batch(model, asked[rows], chat.eos_token_id, config, keys[rows])
            parts.append(batch.run(drawing, start, bar.update))
    width = max(map(len, asked))
    return {
        "prompt_ids": np.array([p + [0] * (width - len(p)) for p in asked], np.int32),
        "n_prompt": np.array([len(p) for p in asked], np.int32),
        "token_ids": np.concatenate([ids for ids, _ in parts]).astype(np.int32),
        "log_probs": np.concatenate([logs for _, logs in parts]).astype(np.float32),
    }


class _Batch(NamedTuple):
    """Texts drawn side by side; none may end."""

    model: Any
    asked: list[list[int]]
    end_id: int
    config: WatermarkConfig
    keys: list[SecretKey]

    def run(
        self, drawing: Drawing, start: int, on_tokens: Callable[[int], object]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        import torch
        from transformers import DynamicCache

        from watermark.marking import Marker

        marker = Marker(self.config, self.keys)
        generator = torch.Generator().manual_seed(drawing.seed * 1_000_003 + start)
        width, cache = max(map(len, self.asked)), DynamicCache()
        inputs = torch.tensor([[0] * (width - len(p)) + p for p in self.asked])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in self.asked])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        response = torch.empty((len(self.asked), 0), dtype=torch.int64)
        logs = []
        with torch.inference_mode():
            for _ in range(drawing.n_tokens):
                logits = self.model(
                    input_ids=inputs, attention_mask=mask, position_ids=positions,
                    past_key_values=cache, use_cache=True, logits_to_keep=1,
                ).logits[:, -1].float() / drawing.temperature  # fmt: skip
                logits[:, self.end_id] = -torch.inf
                kept, ids = logits.topk(_TOP_K, dim=1)
                final = marker(response, kept, generator, token_ids=ids)
                drawn = torch.multinomial(final.softmax(dim=1), 1, generator=generator)
                logs.append(kept.gather(1, drawn) - logits.logsumexp(dim=1, keepdim=True))
                inputs = ids.gather(1, drawn)
                response = torch.cat([response, inputs], dim=1)
                mask = torch.cat([mask, torch.ones_like(inputs)], dim=1)
                positions = positions[:, -1:] + 1
                on_tokens(len(self.asked))
        return response.numpy(), torch.cat(logs, dim=1).numpy()


@click.command()
@click.option("--preset", "names", multiple=True, type=click.Choice(list(PRESETS)))
@click.option("--texts", "n_texts", default=N_TEXTS, show_default=True)
@click.option("--tokens", "n_tokens", default=N_TOKENS, show_default=True)
@click.option("--temperature", default=1.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    names: tuple[str, ...], n_texts: int, n_tokens: int, temperature: float, seed: int
) -> None:
    """Draw the texts of presets and keep them."""
    for name in names or ("default", "gumbel"):
        texts = marked_texts(
            name, n_texts=n_texts, n_tokens=n_tokens, temperature=temperature, seed=seed
        )
        mean = float(np.mean([text.log_probs.mean() for text in texts]))
        click.echo(f"{name}: {len(texts)} texts, mean log-probability {mean:.3f} nats a token")


if __name__ == "__main__":
    main()
