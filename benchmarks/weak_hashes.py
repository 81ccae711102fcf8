"""What are other engines' hashes worth as evidence?

Every key that is tested here is innocent: drawn afresh, after the text was made. Beside the p-value
that independent words would have stands the one that we give. Texts are drawn: token ids with the
shares of Zipf's law, or, where a mark is in them, equally likely candidates, which is the high
entropy that a mark likes best.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest

from benchmarks.record import write_result
from detect.decoys import decoy_statistics
from detect.finding import Plan, null_tail
from detect.scoring.scores import Selection, select_pairs
from detect.tails.convolution import convolution_log_tails
from detect.tails.layers import layer_parts
from detect.tails.nulls import log_tails
from watermark.config import WatermarkConfig
from watermark.interop.google_synthid import GoogleSynthID
from watermark.interop.sbw import Sbw, sbw_green_list
from watermark.interop.synthid_hash import MULTIPLIER
from watermark.interop.textseal import TextSealWords
from watermark.interop.transformers_kgw import TransformersKgw
from watermark.interop.transformers_synthid import TransformersSynthID
from watermark.kernels import numba_synthid
from watermark.keys import EngineKey
from watermark.schemes.green_list import GreenList
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.tournament import Tournament
from watermark.word_sources import Pairs, WordSource

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_VOCABULARY, _TABLE, _LAYERS = 49_152, 65_536, 30
_SCHEME = Tournament(_LAYERS)
_WEIGHTS = np.arange(_LAYERS, 0, -1)
# Of the first 200 table seeds the one whose table has the most ones.
_MOST_ONES = 194
_LEVEL = 1e-6


def _seed(seed: int, use: str) -> int:
    """A seed for each use: a key must not come from the numbers that made the text."""
    return int.from_bytes(hashlib.sha256(f"{seed} {use}".encode()).digest()[:6], "little")


def _zipf(n: int, seed: int) -> Ints:
    shares = 1 / (np.arange(_VOCABULARY) + 2.7)
    return np.random.default_rng(seed).choice(_VOCABULARY, n, p=shares / shares.sum())


def _selected(ids: Ints, h: int, source: WordSource) -> Selection:
    return select_pairs(ids, h, drop_repeated_contexts=True, source=source)


def _share_at(log_p: Floats, level: float) -> float:
    return float((log_p <= math.log(level)).mean())


def _lowest(log_p: Floats) -> float:
    return float(log_p.min()) / math.log(10)


def _uniformity(log_p: Floats) -> float:
    return float(kstest(np.exp(log_p), "uniform").pvalue)


def _exact_log_p(totals: Ints, statistics: Ints) -> Floats:
    """What `detect.tails.layers.layers_tail` gives, for many keys of distinct layers at once."""
    parts, left_out = layer_parts(_WEIGHTS.tolist(), totals)
    log_distinct = float(np.log1p(-np.arange(_LAYERS) / len(totals)).sum())
    return np.minimum(convolution_log_tails(parts, statistics - left_out) - log_distinct, 0)


def _distinct_layer_keys(n: int, rng: np.random.Generator) -> Ints:
    keys = rng.integers(0, _TABLE, (n, _LAYERS))
    return keys[[len(set(row)) == _LAYERS for row in keys.tolist()]]


def _ones(source: TransformersSynthID) -> int:
    """Ones of the table: what a layer sums to over all classes of pairs."""
    pairs = Pairs(np.zeros((_TABLE, 4), np.int64), np.arange(_TABLE))
    return int(source.layers(source.fresh_keys(1, 0)[0], pairs, 0).totals[0])


def _table_of(table_seed: int, n_pairs: int, n_keys: int, seed: int) -> dict[str, Any]:
    """A big innocent corpus under fresh keys of one table."""
    source = TransformersSynthID(table_seed=table_seed)
    chosen = _selected(_zipf(n_pairs * 2, _seed(seed, "corpus")), 4, source)
    pairs = Pairs(chosen.contexts[:n_pairs], chosen.tokens[:n_pairs])
    n, keys = (
        len(pairs.tokens),
        _distinct_layer_keys(n_keys, np.random.default_rng(_seed(seed, "keys"))),
    )
    totals = source.layers(source.fresh_keys(1, 0)[0], pairs, 0).totals
    statistics = totals[keys] @ _WEIGHTS
    fair = log_tails(_SCHEME.law, statistics.astype(np.float64), np.full(len(keys), n))
    off = (statistics - n * _SCHEME.law.mean) / math.sqrt(n * _SCHEME.law.variance)
    ours = _exact_log_p(totals, statistics)
    ones = _ones(source)
    return {
        "table_seed": table_seed,
        "ones": ones,
        "share_of_ones": ones / _TABLE,
        "pairs": n,
        "keys": len(keys),
        "fair_bits": {
            "mean_deviations": float(off.mean()),
            "sd_of_deviations": float(off.std(ddof=1)),
            "median_log10_p": float(np.median(fair)) / math.log(10),
            "share_at_1e-6": _share_at(fair, _LEVEL),
            "uniformity_p": _uniformity(fair),
        },
        "ours": {
            "lowest_log10_p": _lowest(ours),
            "share_at_1e-6": _share_at(ours, _LEVEL),
            "uniformity_p": _uniformity(ours),
        },
    }


def _marked_pairs(source: WordSource, key: EngineKey, n: int, seed: int) -> Pairs:
    """Random contexts, each with the best of four random tokens."""
    rng = np.random.default_rng(seed)
    contexts, tokens = (
        rng.integers(0, _VOCABULARY, (n, 4)),
        rng.integers(0, _VOCABULARY, (n, 4)),
    )
    under = source.under(key)
    words = under.words(under.context_hashes(contexts), tokens)
    best = _SCHEME.score(words.reshape(1, -1)).reshape(n, 4).argmax(axis=1)
    return Pairs(contexts, tokens[np.arange(n), best])


def _shared_layer(n_pairs: int, n_texts: int, n_keys: int, seed: int) -> dict[str, Any]:
    """Texts marked under another key of the table, whose first layer key is ours as well."""
    source, shared = TransformersSynthID(), []
    hits = tried = ours_hits = 0
    for i in range(n_texts):
        rng = np.random.default_rng(_seed(seed, f"keys {i}"))
        other, own = _distinct_layer_keys(3, rng)[:2]
        own[0] = other[0]
        pairs = _marked_pairs(source, EngineKey(other.tolist()), n_pairs, _seed(seed, f"text {i}"))
        totals = source.layers(own.astype(np.uint64), pairs, 0).totals
        statistic = int(totals[own] @ _WEIGHTS)
        plan = Plan(
            WatermarkConfig(_SCHEME, 4, source=source), EngineKey(own.tolist()), 1e-6, 0.3, 0, 0
        )
        fair = log_tails(_SCHEME.law, np.array([float(statistic)]), np.array([n_pairs]))
        exact = null_tail(plan, pairs.contexts, pairs.tokens, statistic).log10_p
        shared.append((_lowest(fair), exact))
        statistics = totals[_distinct_layer_keys(n_keys, rng)] @ _WEIGHTS
        fair = log_tails(
            _SCHEME.law, statistics.astype(np.float64), np.full(len(statistics), n_pairs)
        )
        hits += int((fair <= math.log(_LEVEL)).sum())
        ours_hits += int((_exact_log_p(totals, statistics) <= math.log(_LEVEL)).sum())
        tried += len(statistics)
    fair_p, exact_p = np.array(shared).T
    return {
        "pairs": n_pairs,
        "texts": n_texts,
        "chance_of_a_shared_layer": 1 - (1 - _LAYERS / _TABLE) ** _LAYERS,
        "first_layer_shared": {
            name: {"median_log10_p": float(np.median(p)), "lowest_log10_p": float(p.min())}
            for name, p in (("fair_bits", fair_p), ("ours", exact_p))
        },
        "fresh_keys": {
            "keys": tried,
            "fair_bits_share_at_1e-6": hits / tried,
            "ours_share_at_1e-6": ours_hits / tried,
        },
    }


def _correlation(difference: int, n_keys: int, seed: int) -> float:
    """Of the g-values of two pairs whose hashes differ by this, over random layer keys."""
    states = np.random.default_rng(seed).integers(0, 2**64 - 1, n_keys, np.uint64, True)
    key = np.zeros(1, np.uint64)
    one = numba_synthid.words(states, key) >> 31
    other = numba_synthid.words(states + np.uint64(difference % 2**64), key) >> 31
    return 2 * float((one == other).mean()) - 1


def _google_texts(n: int, seed: int) -> Iterator[tuple[str, Pairs]]:
    chosen = _selected(_zipf(n * 2, _seed(seed, "text")), 4, GoogleSynthID())
    yield "text", Pairs(chosen.contexts[:n], chosen.tokens[:n])
    contexts = np.repeat(chosen.contexts[:1], n, axis=0)
    yield "one_context", Pairs(contexts, np.arange(n))
    contexts = contexts.copy()
    contexts[:, 3] = np.arange(n)
    yield "one_context_token_differs", Pairs(contexts, np.full(n, 7))


def _google(n_pairs: int, n_keys: int, n_differences: int, seed: int) -> dict[str, Any]:
    source, n_correlated = GoogleSynthID(), 1_000_000
    rng = np.random.default_rng(_seed(seed, "differences"))
    differences = rng.integers(1, 2**64 - 1, n_differences, np.uint64, True).tolist()
    found = np.array(
        [
            _correlation(d, n_correlated, _seed(seed, f"correlation {i}"))
            for i, d in enumerate(differences)
        ]
    )
    config, texts = WatermarkConfig(_SCHEME, 4, source=source), {}
    for name, pairs in _google_texts(n_pairs, seed):
        n, log_p = len(pairs.tokens), []
        layers = source.layers(
            source.fresh_keys(1, _seed(seed, "key"))[0], pairs, _seed(seed, "layers")
        )
        few = Pairs(pairs.contexts[:300], pairs.tokens[:300])
        for i, integers in enumerate(source.fresh_keys(n_keys, _seed(seed, "keys"))):
            key = EngineKey(integers.tolist())
            plan = Plan(config, key, 1e-6, 0.3, 0, _seed(seed, f"layers {i}"))
            under = source.under(key)
            words = under.words(under.context_hashes(few.contexts), few.tokens)
            statistic = float(_SCHEME.score(words[None]).sum())
            log_p.append(null_tail(plan, *few, statistic).log10_p * math.log(10))
        texts[name] = {
            "pairs": n,
            "variance_against_fair_bits": float(layers.totals.var() / (n / 4)),
            "layer_keys": len(layers.totals),
            "ours": {
                "pairs": len(few.tokens),
                "keys": n_keys,
                "uniformity_p": _uniformity(np.array(log_p)),
                "lowest_log10_p": _lowest(np.array(log_p)),
            },
        }
    return {
        "correlation_of_two_pairs": {
            "differences": n_differences,
            "keys": n_correlated,
            "root_mean_square": float(np.sqrt((found**2).mean())),
            "largest": float(np.abs(found).max()),
            "neighbouring_tokens": _correlation(int(MULTIPLIER), n_correlated, _seed(seed, "next")),
            "hashes_differ_in_the_top_bit": _correlation(1 << 63, n_correlated, _seed(seed, "top")),
        },
        "sums": texts,
    }


def _textseal_text(integers: NDArray[np.uint64] | None, n_tokens: int, seed: int) -> Ints:
    """Equally likely tokens, of 16 the one with the best word; without a key the first."""
    source, rng, text = TextSealWords(), np.random.default_rng(seed), [1, 2]
    for _ in range(n_tokens):
        candidates, best = rng.integers(0, _VOCABULARY, 16), 0
        if integers is not None:
            hashes = source.context_hashes(integers, np.array([text[-2:]]))
            best = int(source.words(integers, hashes, candidates[None], 0).argmax())
        text.append(int(candidates[best]))
    return np.array(text)


def _innocent(
    config: WatermarkConfig, chosen: Selection, n_keys: int, seed: int
) -> tuple[Floats, Floats]:
    """Statistics of fresh keys, and ln p of independent words."""
    scheme, keys = config.scheme, config.source.fresh_keys(n_keys, seed)
    found = decoy_statistics(scheme, keys, chosen.contexts, chosen.tokens, source=config.source)
    statistics = found + chosen.n_scored * scheme.law.mean
    return statistics, log_tails(scheme.law, statistics, np.full(n_keys, chosen.n_scored))


def _textseal(length: int, n_keys: int, n_texts: int, marked: bool, seed: int) -> dict[str, Any]:
    """Texts marked under another key, or none."""
    source = TextSealWords()
    config = WatermarkConfig(Gumbel(), 2, source=source)
    n_decoys, usual, ranked, ratios = n_keys // 2, [], [], []
    for i in range(n_texts):
        integers = source.fresh_keys(1, _seed(seed, f"key {length} {i}"))[0] if marked else None
        ids = _textseal_text(integers, length, _seed(seed, f"text {length} {i}"))
        chosen = _selected(ids, 2, source)
        statistics, log_p = _innocent(config, chosen, n_keys, _seed(seed, f"keys {length} {i}"))
        usual.append(log_p)
        ratios.append(float(statistics.var() / chosen.n_scored))
        decoys = np.sort(statistics[:n_decoys])
        above = n_decoys - np.searchsorted(decoys, statistics[n_decoys:], "left")
        ranked.append(np.log((1 + above) / (n_decoys + 1)))
    log_p, by_decoys = np.concatenate(usual), np.concatenate(ranked)
    tested = np.concatenate([p[n_decoys:] for p in usual])
    worst = int(tested.argmin())
    return {
        "tokens": length,
        "marked_under_another_key": marked,
        "texts": n_texts,
        "keys": len(log_p),
        "variance_against_independent_words": ratios,
        "usual_tail": {
            "at_1e-6": int((log_p <= math.log(_LEVEL)).sum()),
            "share_at_1e-6": _share_at(log_p, _LEVEL),
            "share_at_1e-6_of_each_text": [_share_at(p, _LEVEL) for p in usual],
            "lowest_log10_p": _lowest(log_p),
        },
        "decoys": {
            "decoys": n_decoys,
            "keys": len(by_decoys),
            "share_at_1e-2": _share_at(by_decoys, 1e-2),
            "of_the_key_with_the_lowest_usual_p": {
                "usual_log10_p": float(tested[worst]) / math.log(10),
                "decoys_log10_p": float(by_decoys[worst]) / math.log(10),
            },
        },
    }


def _selfhash(config: WatermarkConfig, n_keys: int, seed: int) -> dict[str, Any]:
    """Every distinct pair counted, and one of each token, as `WordSource.evidence` has it."""
    h = config.context_width
    measured: dict[str, Any] = {}
    texts = {
        "400_tokens_of_12_ids": np.random.default_rng(_seed(seed, "few")).integers(0, 12, 400),
        "400_tokens_by_zipf": _zipf(400, _seed(seed, "zipf")),
    }
    for name, ids in texts.items():
        measured[name] = {}
        for rule in ("every_pair", "one_pair_a_token"):
            chosen = (
                select_pairs(ids, h, drop_repeated_contexts=False)
                if rule == "every_pair"
                else _selected(ids, h, config.source)
            )
            _, log_p = _innocent(config, chosen, n_keys, _seed(seed, "keys"))
            measured[name][rule] = {
                "scored": chosen.n_scored,
                "keys": n_keys,
                "share_at_1e-3": _share_at(log_p, 1e-3),
                "share_at_1e-6": _share_at(log_p, _LEVEL),
                "lowest_log10_p": _lowest(log_p),
            }
    return measured


@click.command()
@click.option("--pairs", "n_pairs", default=200_000, show_default=True, help="Of the big corpus.")
@click.option("--keys", "n_keys", default=400, show_default=True, help="Fresh keys, SynthID.")
@click.option("--texts", "n_texts", default=4, show_default=True, help="Of each kind.")
@click.option("--words", default=100_000_000, show_default=True, help="Of each TextSeal length.")
@click.option("--kgw-keys", default=4_000, show_default=True, help="Fresh keys, selfhash.")
@click.option("--seed", default=0, show_default=True)
def main(n_pairs: int, n_keys: int, n_texts: int, words: int, kgw_keys: int, seed: int) -> None:
    """Test innocent keys."""
    started = time.process_time()
    measured: dict[str, Any] = {}

    def done(name: str, found: Any) -> None:
        measured[name] = found
        click.echo(f"{time.process_time() - started:.0f} s {name}: {found}")

    for name, table_seed in (("default", 0), ("most_ones", _MOST_ONES)):
        found = _table_of(table_seed, n_pairs, n_keys, seed)
        done(f"transformers_synthid_table_{name}", found)
    found = _shared_layer(8_000, n_texts, n_keys * 10, seed)
    done("transformers_synthid_another_key_of_the_table", found)
    done("google_synthid", _google(2_000, n_keys, 100, seed))
    lengths = [
        _textseal(length, max(words // (length * n_texts), 2), n_texts, marked, seed)
        for marked in (True, False)
        for length in (200, 5_000, 20_000)
    ]
    done("textseal", lengths)
    kgw = TransformersKgw("selfhash", _VOCABULARY)
    config = WatermarkConfig(GreenList(kgw.n_green, _VOCABULARY), 3, source=kgw)
    done("transformers_kgw_selfhash", _selfhash(config, kgw_keys, seed))
    config = WatermarkConfig(sbw_green_list(0.25, 2.0), 3, source=Sbw("selfhash"))
    done("sbw_selfhash", _selfhash(config, kgw_keys, seed))
    measured["cpu_seconds"] = round(time.process_time() - started, 1)
    click.echo(f"wrote {write_result('weak_hashes', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
