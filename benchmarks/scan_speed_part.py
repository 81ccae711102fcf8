"""One measurement of `benchmarks.scan_speed`, in a process of its own: prints one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_VOCABULARY, _DOCUMENT, _KEY = 49_152, 1_000, 15485863


def _timed(n_tokens: int, work: Callable[[], object]) -> dict[str, Any]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return {
        "tokens": n_tokens,
        "wall_s": time.perf_counter() - wall,
        "processor_s": time.process_time() - processor,
    }


def encoding(path: str) -> dict[str, Any]:
    """`tokenizers` on all cores, nothing else: texts are in memory, ids stay in the library."""
    from tokenizers import Tokenizer

    from watermark.models import resolve_model

    tokenizer = Tokenizer.from_file(str(resolve_model("smollm2") / "tokenizer.json"))
    texts = [json.loads(line)["text"] for line in Path(path).read_text("utf-8").splitlines()]
    n_tokens = 0

    def encode() -> None:
        nonlocal n_tokens
        for start in range(0, len(texts), 1_000):
            batch = tokenizer.encode_batch_fast(
                texts[start : start + 1_000], add_special_tokens=False
            )
            n_tokens += sum(map(len, batch))

    found = _timed(0, encode)
    return {**found, "tokens": n_tokens}


def phases(path: str) -> dict[str, Any]:
    """Processor seconds of a scan by phase, and of the tokenizer alone, in one process."""
    import tempfile
    from collections import Counter

    from detect.documents import Columns
    from detect.finding import Plan
    from detect.scanning.folder import PartFolder
    from detect.scanning.pieces import cut_corpus
    from detect.scanning.plans import ScanPlan
    from detect.scanning.pool import add_pools, pool_groups
    from detect.scanning.running import _Named
    from detect.scanning.scanner import Scanner
    from detect.scanning.shards import ShardReader
    from detect.scanning.summary import finalise
    from detect.text import DIRECT_EFFECT
    from watermark.config import preset
    from watermark.keys import SecretKey
    from watermark.tokens import load_tokenizer

    config, key = preset("default"), SecretKey(bytes(range(32)))
    scan = ScanPlan(config, config.source.key_of(key))
    plan = Plan(config, key, 1e-6, DIRECT_EFFECT, 0, 0, scan.scorer)
    corpus, tokenizer = cut_corpus(path, Columns()), load_tokenizer("smollm2")
    reader = ShardReader(Scanner(scan, tokenizer), corpus.pieces, Columns(), skips_bad=False)
    n = len(corpus.shards)
    # Compiled or loaded before the clock runs.
    rng = np.random.default_rng(0)
    ids = [rng.integers(2, _VOCABULARY, _DOCUMENT) for _ in range(600)]
    score_and_add(scan, ids)
    with tempfile.TemporaryDirectory() as temporary:
        folder = PartFolder(Path(temporary))

        def scanned() -> None:
            for number, shard in enumerate(corpus.shards):
                reader.scan_into(folder, number, shard)

        found = {"scanning": _timed(0, scanned)}
        pools = [part.pool for part in folder.parts(n)]
        sums: Any = None

        def added() -> None:
            nonlocal sums
            sums = add_pools(pools, pool_groups(pools))

        found["adding_up"] = _timed(0, added)

        def named(lines: Counter[int]) -> _Named:
            return _Named(corpus.pieces, [0] * len(corpus.pieces))

        parts = folder.parts(n)
        result: Any = None

        def finalised() -> None:
            nonlocal result
            result = finalise(parts, sums, plan=plan, scan=scan, naming=named)

        found["finalising"] = _timed(0, finalised)
    found["tokenizer_alone"] = encoding(path)
    return {"tokens": result.n_tokens, "documents": result.n_documents, **found}


def score_and_add(scan: Any, ids: Any) -> None:
    """Run every kernel once."""
    from detect.scanning.batches import score_batch
    from detect.scanning.parts import PoolColumns
    from detect.scanning.pool import add_pools, in_buckets, pool_groups

    batch = score_batch(ids, scan, [0, 1], _VOCABULARY)
    pool = in_buckets(PoolColumns(batch.hashes, batch.ranks, batch.units))
    add_pools([pool], pool_groups([pool]))


def ids(name: str, n_tokens: int = 48_000_000) -> dict[str, Any]:
    """Our detection: which tokens are scored, each document's sum, and one p-value of all.

    The p-value takes up to 0.5 s whatever the number of tokens, and most for some ten million.
    """
    from detect.scanning.batches import score_batch
    from detect.scanning.plans import ScanPlan
    from detect.tails.nulls import tail
    from watermark.config import PRESETS
    from watermark.engine_settings import engine_config
    from watermark.keys import EngineKey, SecretKey

    settings: dict[str, Any] = {} if name == "vllm" else {"vocab_size": _VOCABULARY}
    config = PRESETS.get(name) or engine_config(name, settings)
    key = SecretKey(bytes(range(32))) if name in PRESETS else EngineKey([_KEY])
    plan = ScanPlan(config, config.source.key_of(key))
    rng = np.random.default_rng(0)
    texts = [rng.integers(2, _VOCABULARY, _DOCUMENT) for _ in range(n_tokens // _DOCUMENT)]
    score_batch(texts[:1_000], plan, [0, 1], _VOCABULARY)
    forget()

    def detect() -> None:
        units, n = 0, 0
        for start in range(0, len(texts), 1_000):
            batch = score_batch(texts[start : start + 1_000], plan, [0, 1], _VOCABULARY)
            units += int(batch.sums.sum())
            n += int(batch.n_scored.sum())
        tail(plan.scorer.law, units * plan.step, n)

    return _timed(n_tokens, detect)


def forget() -> None:
    """Drop the green lists that were kept while all was compiled: they belong to the time."""
    from watermark.interop import transformers_kgw

    transformers_kgw._green_lists.cache_clear()


def transformers(n_tokens: int = 20_000) -> dict[str, Any]:
    """The WatermarkDetector of transformers on its own default mark."""
    from types import SimpleNamespace

    import torch
    from transformers import WatermarkDetector, WatermarkingConfig

    torch.set_num_threads(1)
    model: Any = SimpleNamespace(bos_token_id=-1, is_encoder_decoder=False, vocab_size=_VOCABULARY)
    detector = WatermarkDetector(model, "cpu", WatermarkingConfig(hashing_key=_KEY))
    texts = np.random.default_rng(0).integers(2, _VOCABULARY, (n_tokens // _DOCUMENT, _DOCUMENT))
    return _timed(n_tokens, lambda: detector(torch.from_numpy(texts)))


def vllm(n_tokens: int = 20_000) -> dict[str, Any]:
    """The own detector of vLLM on its default mark, in vLLM's environment."""
    import torch
    from vllm.v1.watermarking import gumbel

    torch.set_num_threads(1)
    detector = gumbel.GumbelWatermarkDetector(_KEY, 4)
    texts = np.random.default_rng(0).integers(2, _VOCABULARY, (n_tokens // _DOCUMENT, _DOCUMENT))
    rows = texts.tolist()
    detector.detect(rows[0])
    return _timed(n_tokens, lambda: [detector.detect(row) for row in rows])


def ray(path: str, n_workers: str, tokenizer: str) -> dict[str, Any]:
    """A scan on Ray tasks, from the cluster's readiness to the last part."""
    import tempfile

    from detect.documents import Columns
    from detect.scanning.folder import PartFolder
    from detect.scanning.on_ray import RayCrew
    from detect.scanning.pieces import cut_corpus
    from detect.scanning.plans import ScanPlan
    from detect.scanning.scanner import Scanner
    from detect.scanning.shards import ShardReader
    from watermark.config import preset
    from watermark.keys import SecretKey
    from watermark.tokens import load_tokenizer

    config = preset("default")
    plan = ScanPlan(config, config.source.key_of(SecretKey(bytes(range(32)))))
    corpus = cut_corpus(path, Columns(), 2 << 20)
    scanner = Scanner(plan, load_tokenizer(tokenizer))
    reader = ShardReader(scanner, corpus.pieces, Columns(), skips_bad=False)
    tokens = [0]

    def count(done: Any) -> None:
        tokens[0] += done.n_tokens

    with tempfile.TemporaryDirectory() as folder, RayCrew(None, int(n_workers)) as crew:
        found = _timed(0, lambda: crew.run_shards(reader, corpus, PartFolder(Path(folder)), count))
    return {**found, "tokens": tokens[0], "processor_s": None}


def main() -> None:
    case, *arguments = sys.argv[1:]
    cases: dict[str, Callable[..., dict[str, Any]]] = {
        "encoding": encoding, "phases": phases, "ids": ids, "ray": ray,
        "transformers": transformers, "vllm": vllm,
    }  # fmt: skip
    print(json.dumps(cases[case](*arguments)))


if __name__ == "__main__":
    main()
