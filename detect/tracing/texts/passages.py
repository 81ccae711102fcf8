"""Did this key write passages of the text, whoever wrote the rest? A bet on every place at once.

A sum over a whole document is diluted by what others wrote in it, and by tokens that were replaced.
Here the writer of each scored pair, in the text's order, is presumed to be a Markov chain: a
passage of the key is entered with probability a and left with probability b. Inside, a pair is
marked with probability e (an edited token spoils h + 1 of them), so that its word's likelihood
ratio is 1 + e (r - 1), r being that of a marked pair (`detect.scoring.score_tables`); outside it
is 1. The likelihood ratio of the text is the sum over all ways in which the passages could lie,
each with its prior probability, times the ratios inside: the chain's forward recursion adds them
up in one pass (Rabiner, Proc. IEEE 77, 1989).

H0 of a key: the text does not depend on it. Given the text, the words of its distinct pairs are
then independent and uniform, each ratio has mean 1, and so has that of the text, for every way the
passages could lie and for their mixture: it is an e-value, and P(ratio >= x) <= 1 / x (Markov).
The bound holds at every x, with no assumption on passages or edits; a, b and e decide the power
alone. `detect.tracing.texts.passage_draws` makes the bound sharper where that matters. The tables
are rounded down, so that their means are below 1; this is more than what float64 rounds in the
recursion.

One chain, since others (three states, other lengths, windows with exact tails) found no more:
docs/tracing.md, "How sure".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.alternatives import TYPICAL
from detect.scoring.cells import cell_of
from detect.scoring.score_tables import cell_ratios
from detect.scoring.units import kernel_cells
from watermark.prf import NATIVE, NativePrf
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.word_sources import Pairs, WordSource

__all__ = ["PassageTable", "Prior", "forward_log_ratios", "log_ratios", "passage_table", "prior_of"]

# e: of five tokens one was replaced, which leaves half of the pairs where h = 2.
_MARKED: Final = 0.5
# 1 / b: pairs of a passage, by mean.
_INSIDE: Final = 40.0
# 1 / a: pairs between passages, by mean; in long texts passages are rarer.
_OUTSIDE: Final = 100.0
_PASSAGES: Final = 8
# Below this many words numpy is done before numba has been imported (0.5 s).
_COMPILE_FROM: Final = 1 << 18
_CHUNK_WORDS: Final = 1 << 22
# Words of one call of the kernel, some seconds: no Ctrl-C is heard meanwhile.
_CALL_WORDS: Final = 1 << 29
_CALL_KEYS: Final = 1 << 11
# Pairs after which powers of two are taken out: no ratio reaches 2^15.
_RESCALE: Final = 64
_LARGEST_RATIO: Final = float(1 << 15)
_MAX_ID: Final = (1 << 32) - 1
_LN2: Final = math.log(2)


@final
@dataclass(frozen=True, eq=False)
class PassageTable:
    """Likelihood ratios of words inside a passage, by their cells.

    Attributes:
        ratios: float64, shape (N_CELLS,) for one stream or (N_CELLS, N_CELLS) for two; of null mean
            at most 1.
    """

    ratios: NDArray[np.float64]

    @property
    def n_streams(self) -> int:
        """Word streams that the table reads."""
        return self.ratios.ndim


class Prior(NamedTuple):
    """What is presumed of passages before anything is looked at.

    Attributes:
        start: probability that the text begins inside a passage.
        enter: that a passage begins before a pair.
        leave: that it ends.
    """

    start: float
    enter: float
    leave: float


def prior_of(n_pairs: int) -> Prior:
    """Presume passages by the length of the text alone.

    Args:
        n_pairs: scored pairs.

    Returns:
        The chain, in its stationary state at the start.
    """
    enter, leave = 1 / max(_OUTSIDE, n_pairs / _PASSAGES), 1 / _INSIDE
    return Prior(enter / (enter + leave), enter, leave)


@lru_cache(maxsize=8)
def passage_table(scheme: Scheme) -> PassageTable | None:
    """Make the ratios of a scheme.

    Args:
        scheme: the deployment's.

    Returns:
        The table; None for a scheme without a likelihood for single tokens.
    """
    if not isinstance(scheme, Gumbel | DualGumbel):
        return None
    ratios, _ = cell_ratios(scheme, TYPICAL)
    mixed = 1 + _MARKED * (ratios - 1)
    # Rounded down to 24 bits, which is far more than the arithmetic above can have erred.
    table = np.nextafter(mixed.astype(np.float32), np.float32(0)).astype(np.float64)
    assert table.max() < _LARGEST_RATIO
    return PassageTable(table)


def log_ratios(
    table: PassageTable, keys: NDArray[np.uint64], pairs: Pairs, source: WordSource = NATIVE
) -> NDArray[np.float64]:
    """Compute ln of the likelihood ratio of a text under each of many keys.

    H0, alternative and bound: see the module. 1 / ratio is a p-value, never too small by chance
    more often than it says.

    Args:
        table: of the scheme.
        keys: uint64, shape (K, n_key_integers).
        pairs: distinct, in the order of the text.
        source: what makes the words.

    Returns:
        float64, shape (K,); 0 for a text without pairs.

    Raises:
        ConfigError: an id outside [0, 2^32).
    """
    n = len(pairs.tokens)
    if not n or not len(keys):
        return np.zeros(len(keys))
    prior, n_words = prior_of(n), len(keys) * n * table.n_streams
    is_fused = isinstance(source, NativePrf) and n_words >= _COMPILE_FROM
    # The kernel trusts its ids; the slow path refuses the same ones.
    if not is_fused or any(x.min(initial=0) < 0 or x.max(initial=0) > _MAX_ID for x in pairs):
        weights, exponents = _by_words(table, keys, pairs, prior, source)
    else:
        weights, exponents = _compiled(table, keys, pairs, prior)
    logs: NDArray[np.float64] = np.log(weights) + exponents * _LN2
    return logs


_Weights = tuple[NDArray[np.float64], NDArray[np.int64]]


def _compiled(
    table: PassageTable, keys: NDArray[np.uint64], pairs: Pairs, prior: Prior
) -> _Weights:
    from watermark.kernels.numba_passages import passage_weights

    ratios = _for_kernel(table)
    each = len(pairs.tokens) * table.n_streams
    size = max(_CALL_WORDS // each // _CALL_KEYS, 1) * _CALL_KEYS
    parts = [
        passage_weights(keys[i : i + size], *pairs, ratios, prior, _RESCALE)
        for i in range(0, len(keys), size)
    ]
    return np.concatenate([w for w, _ in parts]), np.concatenate([e for _, e in parts])


@lru_cache(maxsize=8)
def _for_kernel(table: PassageTable) -> NDArray[np.float64]:
    cells = kernel_cells()
    chosen = table.ratios[cells] if table.n_streams == 1 else table.ratios[np.ix_(cells, cells)]
    return np.ascontiguousarray(chosen.reshape(-1))


def _by_words(
    table: PassageTable,
    keys: NDArray[np.uint64],
    pairs: Pairs,
    prior: Prior,
    source: WordSource,
) -> _Weights:
    n, n_streams = len(pairs.tokens), table.n_streams
    contexts, each = np.ascontiguousarray(pairs.contexts), np.arange(n)
    weights, exponents = np.empty(len(keys)), np.zeros(len(keys), np.int64)
    size = max(_CHUNK_WORDS // (n * n_streams), 1)
    for i in range(0, len(keys), size):
        part = slice(i, i + size)
        words = source.words_for_keys(keys[part], contexts, each, pairs.tokens, n_streams)
        cells = cell_of(words.transpose(1, 2, 0))
        weights[part], exponents[part] = _forward(table.ratios[tuple(cells)], len(words), prior)
    return weights, exponents


def forward_log_ratios(
    ratios: Iterable[NDArray[np.float64]], n_texts: int, prior: Prior
) -> NDArray[np.float64]:
    """Compute ln of the likelihood ratio of texts whose pairs' ratios are given.

    Args:
        ratios: of each pair, in order, float64 of shape (n_texts,).
        n_texts: how many texts there are.
        prior: of their length.

    Returns:
        float64, shape (n_texts,).
    """
    weights, exponents = _forward(ratios, n_texts, prior)
    logs: NDArray[np.float64] = np.log(weights) + exponents * _LN2
    return logs


def _forward(ratios: Iterable[NDArray[np.float64]], n_texts: int, prior: Prior) -> _Weights:
    """Run the chain; the kernel does the same, in the same order."""
    start, enter, leave = prior
    outside, inside = np.full(n_texts, 1.0 - start), np.full(n_texts, start)
    exponents = np.zeros(n_texts, np.int64)
    for i, ratio in enumerate(ratios):
        outside, inside = (
            outside * (1.0 - enter) + inside * leave,
            (outside * enter + inside * (1.0 - leave)) * ratio,
        )
        if (i + 1) % _RESCALE == 0:
            taken = np.frexp(outside + inside)[1]
            outside, inside = np.ldexp(outside, -taken), np.ldexp(inside, -taken)
            exponents += taken
    return outside + inside, exponents
