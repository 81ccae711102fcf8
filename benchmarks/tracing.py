"""Who of 25,000 accounts wrote it: how fast, how surely, and never an innocent one?

- keys: words a second of one core over 25,000 keys, beside the path that keeps the words.
- right: leaked documents of the real model, each searched among 25,000 accounts.
- null: unmarked text, each time searched by `trace_text` among 25,000 fresh keys, alone or with a
  second document and their pool, on all cores, as many searches as the time allows.
- deep: p-values of a pool of two unmarked pieces under some hundred million keys, to 1e-7.
- shares: corpora of 50 accounts and unmarked text; are true shares inside their intervals?
- collusion: documents of 2 to 5 accounts, pieces in turn, a fifth of the tokens replaced.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, poisson

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.record import write_result
from detect.decoys import decoy_keys, decoy_statistics
from detect.fraction_interval import Units, measure_strength
from detect.key_sums import key_units, whole
from detect.results import Verdict
from detect.scanning.results import LeftOut
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs, select_pairs
from detect.scoring.units import score_step
from detect.tails.nulls import log_tails, tail
from detect.tracing.texts.families import Account, KeyFamily
from detect.tracing.texts.plans import TracePlan
from detect.tracing.texts.reading import TokenizedDocument
from detect.tracing.texts.results import TraceResult
from detect.tracing.texts.shares import Reference, shares_of
from detect.tracing.texts.trace import trace_text
from watermark.config import preset
from watermark.keys import SecretKey
from watermark.prf import NATIVE, Prf
from watermark.tokens import TextTokenizer, load_tokenizer
from watermark.word_sources import Pairs

ALPHA = 1e-6
DATA = Path(__file__).parents[2] / "shared" / "data"
# Texts for innocent accounts and for speeds: drawn for another benchmark as well.
ELSEWHERE: dict[str, Any] = {"temperature": 0.7, "n_texts": 100, "n_tokens": 400}
N_TEXTS, N_TOKENS = 100, 300
Ids = NDArray[np.int64]


class Held:
    """Documents that are in memory."""

    def __init__(self, documents: Sequence[Ids]) -> None:
        """Hold documents."""
        self.left_out, self.files_not_read, self.size = LeftOut({}, ()), (), 0
        self._documents = documents

    def batches(self, tokenizer: Any) -> Iterator[tuple[list[TokenizedDocument], int]]:
        """Give them."""
        yield [TokenizedDocument(str(i), str(i), ids) for i, ids in enumerate(self._documents)], 0


@cache
def _tokenizer() -> TextTokenizer:
    return load_tokenizer("smollm2")


def _pairs(texts: Sequence[Ids], width: int) -> Pairs:
    chosen = [select_pairs(ids, width, drop_repeated_contexts=True) for ids in texts]
    return Pairs(
        np.concatenate([s.contexts for s in chosen]), np.concatenate([s.tokens for s in chosen])
    )


def _rate(run: Callable[[], object], n_words: int) -> float:
    started = time.process_time()
    run()
    return n_words / (time.process_time() - started)


def _keys(n_keys: int, n_runs: int, seed: int) -> dict[str, Any]:
    texts = [t.token_ids for t in marked_texts("default", n_texts=N_TEXTS, n_tokens=N_TOKENS)]
    keys = decoy_keys(n_keys, seed)
    found: dict[str, Any] = {}
    for name, n_texts in (
        ("default", 1), ("tracer", 1), ("gumbel", 1), ("unigram", 1), ("tournament", 1),
        ("default", 60), ("tracer", 60),
    ):  # fmt: skip
        config = preset(name)
        scorer = choose_scorer(None, config.scheme, "direct")
        pairs = _pairs([t[:300] for t in texts[:n_texts]], config.context_width)
        grouped = whole(pairs)
        # A word that several texts need is made once, and counted once.
        n_words = n_keys * len(grouped.tokens) * scorer.n_streams
        old = Pairs(pairs.contexts[:300], pairs.tokens[:300])
        # Enough words for its compiled path too.
        few = keys[: 2_000_000 // (len(old.tokens) * scorer.n_streams)]
        n_old = len(few) * len(old.tokens) * scorer.n_streams

        def fused(grouped: Any = grouped, scorer: Any = scorer) -> object:
            return key_units(scorer, keys, grouped)

        def kept(old: Any = old, scorer: Any = scorer, few: Any = few) -> object:
            return decoy_statistics(scorer, few, *old)

        fused(), kept()
        rows = np.array([(_rate(fused, n_words), _rate(kept, n_old)) for _ in range(n_runs)])
        case = f"{name}, {n_texts} text{'' if n_texts == 1 else 's'} of 300 tokens"
        found[case] = {
            "n_keys": n_keys,
            "n_pairs": len(grouped.tokens),
            "n_contexts": len(grouped.contexts),
            "n_streams": scorer.n_streams,
            "words_per_second": float(np.median(rows[:, 0])),
            "words_per_second_best": float(rows[:, 0].max()),
            "words_per_second_before": float(np.median(rows[:, 1])),
            "ratio": float(np.median(rows[:, 0] / rows[:, 1])),
        }
        click.echo(f"{case}: {found[case]}")
    return {"n_runs": n_runs, "cases": found}


def _accounts(n: int, seed: int) -> NDArray[np.uint64]:
    master = SecretKey(np.random.default_rng([seed, 7]).bytes(32))
    return np.stack([NATIVE.key_of(master.derive(account=f"account {i}")) for i in range(n)])


def _served(integers: NDArray[np.uint64], texts: dict[int, MarkedText]) -> KeyFamily:
    """Let some accounts have the keys of some texts."""
    own = integers.copy()
    for number, text in texts.items():
        own[number] = NATIVE.key_of(text.key)
    return KeyFamily(_names(len(own)), own)


@cache
def _names(n: int) -> list[Account]:
    return [Account(str(i), str(i)) for i in range(n)]


def _traced(
    family: KeyFamily, documents: Sequence[Ids], name: str = "default", piece: int | None = None
) -> TraceResult:
    plan = TracePlan(preset(name), family, ALPHA, piece_tokens=piece)
    return trace_text(Held(documents), plan=plan, tokenizer=_tokenizer())


def _right(n_keys: int, n_texts: int, seed: int) -> dict[str, Any]:
    integers = _accounts(n_keys, seed)
    drawn = {
        "default, temperature 1": ("default", {"n_texts": N_TEXTS, "n_tokens": N_TOKENS}),
        "gumbel, temperature 0.7": ("gumbel", ELSEWHERE),
    }
    found = {}
    for case, (name, drawing) in drawn.items():
        texts = marked_texts(name, seed=0, **drawing)[:n_texts]
        found[case] = [_named_right(name, texts, integers, length) for length in (100, 300)]
        click.echo(f"{case}: {found[case]}")
    return {"n_keys": n_keys, "alpha": ALPHA, "cases": found}


def _named_right(
    name: str, texts: list[MarkedText], integers: NDArray[np.uint64], length: int
) -> dict[str, Any]:
    right, wrong, worst, started = 0, 0, -np.inf, time.perf_counter()
    for i, text in enumerate(texts):
        result = _traced(_served(integers, {i: text}), [text.token_ids[:length]], name)
        names = [row.account.name for row in result.named]
        right += str(i) in names
        wrong += sum(other != str(i) for other in names)
        worst = max(worst, result.tail.log10_p)
    band = binomtest(right, len(texts)).proportion_ci(0.95, "exact")
    return {
        "tokens": length,
        "texts": len(texts),
        "right_account_named": right / len(texts),
        "interval_95": [band.low, band.high],
        "wrong_accounts_named": wrong,
        "weakest_log10_p_adjusted": worst,
        "seconds_a_text": (time.perf_counter() - started) / len(texts),
    }


def _unmarked(length: int) -> list[Ids]:
    """Cut real text that nobody marked into pieces."""
    path = DATA / "wikitext2_test.txt"
    if not path.is_file():
        raise click.ClickException("shared/data/wikitext2_test.txt is missing: null is SKIPPED")
    ids = _tokenizer().encode(path.read_text(encoding="utf-8"))
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]


def _null_part(part: int, n_keys: int, n: int, minutes: float, length: int, seed: int) -> Any:
    """Search with `trace_text` itself: best adjusted log10 p, accounts named and documents."""
    pieces, rows, end = _unmarked(length), [], time.monotonic() + 60 * minutes
    for i in range(n):
        if time.monotonic() > end:
            break
        rng = np.random.default_rng([seed, part, i])
        # Fresh keys make the searches independent, although pieces come again.
        family = KeyFamily(_names(n_keys), rng.integers(0, 1 << 64, (n_keys, 2), np.uint64))
        n_documents = 1 + i % 2
        chosen = [pieces[j] for j in rng.choice(len(pieces), n_documents, replace=False)]
        result = _traced(family, chosen, "gumbel")
        n_named = len(result.named) + sum(bool(row.named) for row in result.documents)
        rows.append((result.tail.log10_p, n_named, n_documents))
    return np.array(rows)


def _null(n_keys: int, n_searches: int, minutes: float, length: int, seed: int) -> dict[str, Any]:
    _unmarked(length)
    n_parts = os.cpu_count() or 1
    each = -(-n_searches // n_parts)
    with ProcessPoolExecutor(n_parts, mp_context=get_context("spawn")) as pool:
        running = [
            pool.submit(_null_part, part, n_keys, each, minutes, length, seed)
            for part in range(n_parts)
        ]
        rows = np.concatenate([future.result() for future in running])
    return {
        "searches": len(rows),
        "n_keys": n_keys,
        "preset": "gumbel",
        "text": "WikiText-2, test",
        "pieces": len(_unmarked(length)),
        "tokens": length,
        "alpha": ALPHA,
        "accounts_and_documents_named": int(rows[:, 1].sum()),
        "searches_that_name_somebody_at_most_95": 1 - 0.05 ** (1 / len(rows)),
        "smallest_log10_p_adjusted": float(rows[:, 0].min()),
        "cases": {
            f"{n} document{'s and their pool' if n > 1 else ''}": {
                "searches": int((rows[:, 2] == n).sum()),
                "levels": [
                    _level(rows[rows[:, 2] == n, 0], alpha, n_keys, int(n))
                    for alpha in (0.1, 0.01, 0.001)
                ],
            }
            for n in (1, 2)
        },
    }


def _deep(minutes: float, length: int, seed: int) -> dict[str, Any]:
    """Count keys whose p-value of a pool of two pieces reaches levels as deep as a name needs."""
    config = preset("gumbel")
    scorer = choose_scorer(None, config.scheme, "direct")
    pieces, step, hits, n_keys = _unmarked(length), score_step(scorer), np.zeros(5, np.int64), 0
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        rng = np.random.default_rng([seed, 5, n_keys])
        chosen = [pieces[j] for j in rng.choice(len(pieces), 2, replace=False)]
        selected = [
            select_pairs(ids, config.context_width, drop_repeated_contexts=True) for ids in chosen
        ]
        rows = np.unique(
            np.concatenate([np.column_stack([s.contexts, s.tokens]) for s in selected]), axis=0
        )
        pool = whole(Pairs(np.ascontiguousarray(rows[:, :-1]), rows[:, -1]))
        keys = rng.integers(0, 1 << 64, (2_000_000, 2), np.uint64)
        sums, counts = np.unique(key_units(scorer, keys, pool)[0], return_counts=True)
        logs = log_tails(scorer.law, sums * step, np.full(len(sums), len(rows))) / np.log(10)
        hits += [int(counts[logs <= -depth].sum()) for depth in range(3, 8)]
        n_keys += len(keys)
    return {
        "n_keys": n_keys,
        "tokens": length,
        "levels": [
            {
                "p": 10.0**-depth,
                "hits": int(n),
                "expected": n_keys * 10.0**-depth,
                "p_more_than_expected": float(poisson.sf(n - 1, n_keys * 10.0**-depth)),
            }
            for depth, n in zip(range(3, 8), hits, strict=True)
        ],
    }


def _level(
    adjusted: NDArray[np.float64], alpha: float, n_keys: int, n_documents: int
) -> dict[str, Any]:
    """Compare the searches with a best adjusted p of at most alpha with what is expected.

    Of a document alone that is known. Of two and their pool, which have much in common, it lies
    between what the pool reaches by itself and what independent tests would.
    """
    hits, n = int((adjusted <= np.log10(alpha)).sum()), len(adjusted)
    pool, documents = (alpha, 0.0) if n_documents == 1 else (alpha / 2, alpha / 2)
    low = -np.expm1(n_keys * np.log1p(-pool / n_keys))
    high = 1 - (1 - low) * np.exp(-documents)
    return {
        "alpha": alpha,
        "share": hits / n,
        "expected": [float(low), float(high)],
        "p_more_than_alpha": float(binomtest(hits, n, alpha, alternative="greater").pvalue),
        "p_more_than_expected": float(binomtest(hits, n, high, alternative="greater").pvalue),
        "p_less_than_expected": float(binomtest(hits, n, low, alternative="less").pvalue),
    }


def _shares(n_corpora: int, seed: int) -> dict[str, Any]:
    """Corpora of documents cut from scored texts; under all other keys they are unmarked.

    Reference and corpora are drawn from the same texts, so that these are the population.
    """
    config = preset("default")
    scorer = choose_scorer(None, config.scheme, "inherited")
    texts = marked_texts("default", n_texts=N_TEXTS, n_tokens=N_TOKENS)
    own = [_centred(text, scorer) for text in texts]
    rng, rows = np.random.default_rng(seed), []
    for _ in range(n_corpora):
        rows += _corpus(own, _reference(own, scorer, rng), rng)
    table = np.array(rows)
    named, is_rest = table[:, 4] > 0, table[:, 5] > 0
    return {
        "corpora": n_corpora,
        "accounts": 50,
        "documents": _N_DOCUMENTS,
        "level": 0.95,
        "all_accounts": _coverage(table[~is_rest]),
        "named_accounts": _coverage(table[~is_rest & named]),
        "rest": _coverage(table[is_rest]),
        "accounts_named": float(named[~is_rest].mean()),
    }


_N_DOCUMENTS = 1500


def _centred(text: MarkedText, scorer: Any) -> NDArray[np.float64]:
    selection = select_pairs(text.token_ids, 2, drop_repeated_contexts=True)
    scores = score_pairs(selection, preset("default"), Prf.from_key(text.key), scorer)
    return scores - scorer.law.mean


def _cut(scores: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    n = min(int(rng.integers(60, 300)), len(scores))
    start = int(rng.integers(0, len(scores) - n + 1))
    return scores[start : start + n]


def _reference(pool: list[NDArray[np.float64]], scorer: Any, rng: np.random.Generator) -> Reference:
    cut = [_cut(pool[i], rng) for i in rng.integers(0, len(pool), 200)]
    sizes = np.array([len(c) for c in cut])
    units = Units(sizes, np.array([c.sum() for c in cut]), np.array([c @ c for c in cut]))
    return Reference(measure_strength(units), scorer)


def _corpus(
    pool: list[NDArray[np.float64]], reference: Reference, rng: np.random.Generator
) -> list[tuple[float, ...]]:
    """One corpus: a third unmarked, the rest of 50 accounts, some of which wrote far more."""
    weights = rng.dirichlet(np.ones(50))
    writers = rng.choice(51, _N_DOCUMENTS, p=np.append(weights * 2 / 3, 1 / 3))
    cut = [_cut(pool[i], rng) for i in rng.integers(0, len(pool), _N_DOCUMENTS)]
    document = np.repeat(np.arange(_N_DOCUMENTS), [len(c) for c in cut])
    marked, writer = np.concatenate(cut), np.repeat(writers, [len(c) for c in cut])
    law, scorer = reference.scorer.law, reference.scorer
    present = [a for a in range(50) if (writers == a).any()]

    def scored() -> Iterator[NDArray[np.float64]]:
        for account in present:
            words = rng.integers(0, 1 << 32, (scorer.n_streams, len(marked)), np.uint32)
            yield np.where(writer == account, marked, scorer.score(words) - law.mean)

    held = list(scored())
    shares = shares_of([Account(str(a), "") for a in present], held, document, reference)
    limit = np.log10(ALPHA / 25_000)
    rows = []
    by_name = {share.account.name: share.interval for share in shares.accounts}
    for account, scores in zip(present, held, strict=True):
        statistic = float(scores.sum()) + len(scores) * law.mean
        named = tail(law, statistic, len(scores)).log10_p <= limit
        truth, interval = float((writer == account).mean()), by_name[str(account)]
        rows.append((truth, *interval[:3], float(named), 0.0))
    rows.append((float((writer == 50).mean()), *shares.rest[:3], 1.0, 1.0))
    return rows


def _coverage(rows: NDArray[np.float64]) -> dict[str, Any]:
    truth, estimate, low, high = rows.T[:4]
    covered = int(((low <= truth) & (truth <= high)).sum())
    band = binomtest(covered, len(rows)).proportion_ci(0.99)
    return {
        "n": len(rows),
        "coverage": covered / len(rows),
        "coverage_low_99": band.low,
        "coverage_high_99": band.high,
        "mean_truth": float(truth.mean()),
        "mean_error": float((estimate - truth).mean()),
        "median_width": float(np.median(high - low)),
    }


def _collusion(n_keys: int, n_documents: int, seed: int) -> dict[str, Any]:
    texts = marked_texts("default", n_texts=N_TEXTS, n_tokens=N_TOKENS, seed=0)
    integers, rng, found = _accounts(n_keys, seed), np.random.default_rng(seed), {}
    for n_writers, turn, piece in ((2, 50, None), (3, 50, None), (5, 50, None), (5, 100, 100)):
        for edited in (0.0, 0.2):
            case = [
                _mixed(texts, n_writers, edited, (turn, piece), integers, rng)
                for _ in range(n_documents)
            ]
            guilty = sum(row[0] for row in case)
            searched = f"pieces of {piece}" if piece else "whole"
            name = f"{n_writers} accounts, {turn} tokens in turn, {searched}, {edited:.0%} replaced"
            found[name] = {
                "documents": n_documents,
                "tokens": n_writers * N_TOKENS,
                "guilty_named": guilty / (n_writers * n_documents),
                "all_guilty_named": sum(row[0] == n_writers for row in case) / n_documents,
                "somebody_named": sum(row[2] for row in case) / n_documents,
                "innocents_named": sum(row[1] for row in case),
            }
            click.echo(f"{name}: {found[name]}")
    return {"n_keys": n_keys, "alpha": ALPHA, "cases": found}


def _mixed(
    texts: list[MarkedText],
    n_writers: int,
    edited: float,
    cuts: tuple[int, int | None],
    integers: NDArray[np.uint64],
    rng: np.random.Generator,
) -> tuple[int, int, bool]:
    """Search one document, 300 tokens of each; guilty and innocent accounts that it names."""
    chosen = [texts[i] for i in rng.choice(len(texts), n_writers + 1, replace=False)]
    parts = [text.token_ids for text in chosen[:-1]]
    turn, piece = cuts
    pieces = [part[i : i + turn] for i in range(0, N_TOKENS, turn) for part in parts]
    mixed = np.concatenate(pieces)
    # By tokens of somebody else's text, as likely as real ones.
    other = rng.permutation(np.resize(chosen[-1].token_ids, len(mixed)))
    mixed = np.where(rng.random(len(mixed)) < edited, other, mixed)
    family = _served(integers, dict(enumerate(chosen[:-1])))
    result = _traced(family, [mixed], piece=piece)
    numbers = {int(row.account.name) for row in result.named}
    guilty = len(numbers & set(range(n_writers)))
    return guilty, len(numbers) - guilty, result.verdict == Verdict.SIGNAL


@click.command()
@click.argument("part", type=click.Choice(["keys", "right", "null", "deep", "shares", "collusion"]))
@click.option("--keys", "n_keys", default=25_000, show_default=True)
@click.option("--runs", "n_runs", default=9, show_default=True, help="Of keys: alternating runs.")
@click.option("--texts", "n_texts", default=N_TEXTS, show_default=True, help="Of right.")
@click.option("--searches", "n_searches", default=100_000, show_default=True, help="Of null, deep.")
@click.option("--minutes", default=20.0, show_default=True, help="Of null and deep, at most.")
@click.option("--piece-tokens", default=40, show_default=True, help="Of null, deep.")
@click.option("--corpora", "n_corpora", default=40, show_default=True, help="Of shares.")
@click.option("--documents", "n_documents", default=25, show_default=True, help="Of collusion.")
@click.option("--seed", default=0, show_default=True)
def main(
    part: str,
    n_keys: int,
    n_runs: int,
    n_texts: int,
    n_searches: int,
    minutes: float,
    piece_tokens: int,
    n_corpora: int,
    n_documents: int,
    seed: int,
) -> None:
    """Measure one part."""
    started = time.perf_counter()
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "keys": lambda: _keys(n_keys, n_runs, seed),
        "right": lambda: _right(n_keys, n_texts, seed),
        "null": lambda: _null(n_keys, n_searches, minutes, piece_tokens, seed),
        "deep": lambda: _deep(minutes, piece_tokens, seed),
        "shares": lambda: _shares(n_corpora, seed),
        "collusion": lambda: _collusion(n_keys, n_documents, seed),
    }
    found = runs[part]()
    found["seconds"] = round(time.perf_counter() - started, 1)
    click.echo(f"{part}: {found}")
    click.echo(f"wrote {write_result('tracing', seed=seed, measured=found, case=part)}")


if __name__ == "__main__":
    main()
