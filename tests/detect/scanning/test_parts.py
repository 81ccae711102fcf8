"""The monoid: any split of a corpus, in any order, gives the same result bit for bit."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from detect.finding import Plan
from detect.scanning.parts import Bad, PoolColumns, Sample, sampled
from detect.scanning.plans import ScanPlan
from detect.scanning.pool import add_pools, in_buckets, joined, pool_groups
from detect.scanning.scanner import Located, Scanner
from detect.scanning.summary import HeldPart, finalise
from watermark.config import PRESETS
from watermark.engine_settings import engine_config
from watermark.keys import SecretKey
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIGS = {
    "default": PRESETS["default"],
    "own float score": PRESETS["gumbel"],
    "layers": engine_config("transformers-synthid", {"n_layers": 8, "ngram_len": 3}),
    "decoys": engine_config("textseal", {}),
    "shared evidence": engine_config("sbw", {"seeding_scheme": "gpu-selfhash"}),
}


class _Numbered:
    def source(self, piece: int, place: int) -> str:
        return f"document {place}"

    def message(self, bad: Bad) -> str:
        return bad.message


def _documents(n: int, vocabulary: int) -> list[Located]:
    rng = np.random.default_rng(3)
    pool = [rng.integers(2, vocabulary, rng.integers(0, 90)) for _ in range(n // 2)]
    # Copies and overlaps: the pool's de-duplication has something to do.
    texts = [np.concatenate([pool[i] for i in rng.integers(0, len(pool), 2)]) for _ in range(n)]
    return [Located(0, i, None, None, ids) for i, ids in enumerate(texts)]


def _result(scanner: Scanner, plan: Plan, split: list[list[Located]]) -> str:
    """Scan groups of documents, merge them, and return the result as JSON text."""
    held = HeldPart(scanner.merge([scanner.scan(group) for group in split]))
    pool = add_pools([held.pool], pool_groups([held.pool]))
    naming = lambda lines: _Numbered()  # noqa: E731
    result = finalise([held], pool, plan=plan, scan=scanner.plan, naming=naming)
    return json.dumps(result.to_dict())


@pytest.mark.parametrize("name", list(CONFIGS))
def test_any_split_in_any_order_gives_the_same_bits(name: str, tokenizer: TextTokenizer) -> None:
    config = CONFIGS[name]
    score = "own" if "float" in name else None
    # A sample smaller than the corpus, where its choice must not depend on the split either.
    scan = ScanPlan(config, config.source.key_of(KEY), score, n_sampled=500)
    plan = Plan(config, KEY, 1e-6, 0.3, 99, 0, scan.scorer)
    scanner, documents = Scanner(scan, tokenizer), _documents(40, tokenizer.vocab_size)
    whole = _result(scanner, plan, [documents])
    rng = np.random.default_rng(4)
    for _ in range(3):
        shuffled = [documents[i] for i in rng.permutation(len(documents))]
        cuts = [0, *sorted(rng.integers(0, len(documents), 5).tolist()), len(documents)]
        assert _result(scanner, plan, [shuffled[a:b] for a, b in pairwise(cuts)]) == whole


def test_update_and_merge_are_one_thing(tokenizer: TextTokenizer) -> None:
    config = PRESETS["default"]
    scanner = Scanner(ScanPlan(config, config.source.key_of(KEY), n_sampled=100), tokenizer)
    documents, part = _documents(6, tokenizer.vocab_size), scanner.init()
    for document in documents:
        part = scanner.update(part, [document])
    at_once = scanner.merge([scanner.scan(documents)])
    for mine, other in zip(part.sample, at_once.sample, strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(part.documents.units, at_once.documents.units)


def _columns(n: int, n_values: int, *, ranked: bool) -> PoolColumns:
    rng = np.random.default_rng(5)
    hashes = rng.integers(0, 1 << 64, n_values, np.uint64)[rng.integers(0, n_values, n)]
    ranks = rng.integers(0, 50, n).astype(np.uint64) if ranked else np.empty(0, np.uint64)
    return PoolColumns(hashes, ranks, rng.integers(-99, 99, n).astype(np.int32))


def _expected(columns: PoolColumns) -> tuple[int, int]:
    """By the definition: of equal hashes the least rank, then the least score."""
    best: dict[int, tuple[int, int]] = {}
    ranks = columns.ranks.tolist() or [0] * len(columns.hashes)
    for hashed, rank, units in zip(
        columns.hashes.tolist(), ranks, columns.units.tolist(), strict=True
    ):
        best[hashed] = min(best.get(hashed, (1 << 64, 0)), (rank, units))
    return len(best), sum(units for _, units in best.values())


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("n", [0, 1, 300, 300_000])
def test_the_pool_counts_distinct_pairs(n: int, ranked: bool) -> None:
    """Both sides of the number from which the compiled kernels are used."""
    columns = _columns(n, max(n // 3, 1), ranked=ranked)
    cut = n // 2
    parts = [
        in_buckets(PoolColumns(*(c[:cut] if len(c) else c for c in columns))),
        in_buckets(PoolColumns(*(c[cut:] if len(c) else c for c in columns))),
    ]
    groups = pool_groups(parts)
    sums = joined([add_pools(parts, [group]) for group in groups] or [add_pools(parts, [])])
    assert (sums.n_distinct, sums.units) == _expected(columns)
    assert sums.n_pairs == n


def test_equal_hashes_of_different_pairs_never_raise_the_statistic() -> None:
    """Validity: a collision counts the smaller score, whatever the order."""
    hashes = np.array([7, 7, 9], np.uint64)
    for units in ([5, -3, 1], [-3, 5, 1]):
        columns = PoolColumns(hashes, np.empty(0, np.uint64), np.array(units, np.int32))
        pool = in_buckets(columns)
        assert add_pools([pool], pool_groups([pool])).units == -3 + 1


@pytest.mark.parametrize("n", [1, 40, 10_000])
def test_the_sample_has_the_least_distinct_hashes(n: int) -> None:
    columns = _columns(5_000, 700, ranked=False)
    rows = columns.hashes.view(np.int64)[:, None]
    sample = sampled(Sample(*columns, rows), n)
    expected = np.unique(columns.hashes)[:n]
    np.testing.assert_array_equal(sample.hashes, expected)
