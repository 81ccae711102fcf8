"""How long does it take to read transformers' green lists, by us and by transformers itself?

One core. Real text (WikiText-2 and GSM8K) in the provider's tokens; transformers' own detector
reads a smaller part of the same ids.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.record import write_result
from detect.decoys import decoy_statistics
from detect.scoring.scores import score_pairs, select_pairs
from watermark.config import WatermarkConfig
from watermark.interop.three_bricks import ThreeBricks
from watermark.interop.transformers_kgw import TransformersKgw
from watermark.keys import EngineKey
from watermark.schemes.green_list import GreenList
from watermark.schemes.gumbel import Gumbel
from watermark.tokens import load_tokenizer

DATA = Path(__file__).parents[2] / "shared" / "data"
_KEY = 15485863
_VOCABULARY = 49_152


def _ids(data: Path, n: int) -> NDArray[np.int64]:
    prose = [
        (data / f"wikitext2_{part}.txt").read_text(encoding="utf-8") for part in ("test", "valid")
    ]
    lines = (data / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
    tasks = [f"{row['question']}\n{row['answer']}" for row in map(json.loads, lines)]
    ids = np.concatenate(load_tokenizer("smollm2").encode_many([*prose, *tasks]))
    if len(ids) < n:
        raise click.ClickException(f"the texts have {len(ids)} tokens, {n} are needed")
    return ids[:n]


def _seconds_of_reading(config: WatermarkConfig, key: EngineKey, ids: NDArray[np.int64]) -> float:
    started = time.perf_counter()
    selection = select_pairs(
        ids, config.context_width, drop_repeated_contexts=True, source=config.source
    )
    score_pairs(selection, config, config.source.under(key))
    return time.perf_counter() - started


def _seconds_of_decoys(config: WatermarkConfig, ids: NDArray[np.int64], n_decoys: int) -> float:
    source = config.source
    selection = select_pairs(ids, config.context_width, drop_repeated_contexts=True, source=source)
    keys = source.fresh_keys(n_decoys, 0)
    started = time.perf_counter()
    decoy_statistics(config.scheme, keys, selection.contexts, selection.tokens, source=source)
    return time.perf_counter() - started


def _seconds_of_transformers(scheme: str, ids: NDArray[np.int64]) -> float:
    from transformers import WatermarkDetector, WatermarkingConfig

    model = SimpleNamespace(bos_token_id=-1, is_encoder_decoder=False, vocab_size=_VOCABULARY)
    marking = WatermarkingConfig(hashing_key=_KEY, seeding_scheme=scheme)
    detector = WatermarkDetector(model, "cpu", marking)  # type: ignore[arg-type]
    started = time.perf_counter()
    detector(torch.LongTensor(ids.tolist())[None])  # type: ignore[arg-type]
    return time.perf_counter() - started


def _deployments() -> dict[str, tuple[WatermarkConfig, EngineKey]]:
    found = {}
    for scheme, h in (("lefthash", 1), ("selfhash", 0), ("selfhash", 3)):
        kgw = TransformersKgw(scheme, _VOCABULARY)
        config = WatermarkConfig(GreenList(kgw.n_green, _VOCABULARY), h, source=kgw)
        found[f"transformers-kgw {scheme} h={h}"] = config, EngineKey([_KEY])
    salt = EngineKey([0, 35317])
    lists = ThreeBricks("maryland", _VOCABULARY, 0.25)
    green = GreenList(lists.n_green, _VOCABULARY)
    found["three-bricks maryland h=2"] = WatermarkConfig(green, 2, source=lists), salt
    numbers = WatermarkConfig(Gumbel(), 2, source=ThreeBricks("openai", _VOCABULARY))
    found["three-bricks openai h=2"] = numbers, salt
    return found


@click.command()
@click.option("--tokens", default=1_000_000, show_default=True)
@click.option("--sample", default=2_000, show_default=True, help="Tokens for transformers.")
@click.option("--decoys", default=999, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), default=DATA, show_default=False)
def main(tokens: int, sample: int, decoys: int, data: Path) -> None:
    """Time our reading, decoys on 200 tokens, and transformers' detector."""
    torch.set_num_threads(1)
    ids = _ids(data, tokens)
    measured: dict[str, Any] = {
        "tokens": tokens,
        "distinct_tokens": len(np.unique(ids)),
        "vocab_size": _VOCABULARY,
        "transformers_sample": sample,
        "decoys": decoys,
    }
    for name, (config, key) in _deployments().items():
        _seconds_of_reading(config, key, ids[:5_000])
        seconds = _seconds_of_reading(config, key, ids)
        measured[name] = {
            "seconds_per_million_tokens": seconds / tokens * 1e6,
            "seconds_of_decoys_on_200_tokens": _seconds_of_decoys(config, ids[:200], decoys),
            "affordable_word_cost": config.source.word_cost,
        }
        click.echo(f"{name}: {measured[name]}")
    for scheme in ("lefthash", "selfhash"):
        theirs = _seconds_of_transformers(scheme, ids[:sample]) / sample * 1e6
        h = 1 if scheme == "lefthash" else 0
        ours = measured[f"transformers-kgw {scheme} h={h}"]
        ours["transformers_seconds_per_million_tokens"] = theirs
        ours["times_faster"] = theirs / ours["seconds_per_million_tokens"]
        click.echo(f"transformers {scheme}: {theirs:.0f} s per million")
    click.echo(f"wrote {write_result('interop_kgw', seed=0, measured=measured)}")


if __name__ == "__main__":
    main()
