"""Meta's TextSeal (PyPI 0.0.5 and the 2026 repository): one linear hash, 8,191 values.

    n = (10000019 c_1 + 10000247 c_2 + .. + 100000007 token + 500001713 key) * 15485863 * 40499
    cell = (n xor n >> 13) mod 8191                                         in 64 bits, signed

u = cell / 8191 is the draw of Gumbel-max ("gumbelmax", and "textseal" with two keys and a fresh
coin for each token); u < gamma is green ("greenlist", "morphmark"). Contexts run into the prompt,
so that the first h tokens of an answer are not scored; repeated contexts are marked again. Its
tournament ("synthid") is not read: its layers are the hashes of neighbouring ids.

What the hash is worth:

- *Words are uniform.* n runs through all 64-bit integers as the key does (the multipliers are
  odd). n and its complement have the same n xor n >> 13 (the shift drags the sign along), a
  uniform number of 63 bits; 2^63 mod 8191 = 2048 cells are likelier by 1e-15.
- *Pairs with the same sum share their word under every key*, 10000019 c_1 + .. + 100000007 token:
  `canonical` is that sum. No other pairs do: a difference that never changed the cell would be a
  period of the hash, 2^63 would then be one as well, and it is none.
- *Words of one key are not independent*: their correlation, a function of the difference of the
  sums, has a mean of 0 and a root mean square of 0.013, and is above 0.1 for one difference in 400.
  In sums over natural text that averages out: measured variances are 0.96 to 1.04 of what
  independent words have. In a text *marked under another key* it does not, for there the pairs were
  chosen by the hash: at 200 tokens of high entropy such a text reaches p = 1e-6 under 1e-4 of
  all keys, at 20,000 under 6 %. Only decoy keys count that in (`null`).
- The grid is coarse: scores end at ln 8191 = 9.0. A word of Gumbel-max lies at the lower end of its
  cell, so that a score which grows with the word is never above that of a uniform word in the cell:
  the laws of uniform words bound it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.green_list import GreenList, cell_words
from watermark.schemes.gumbel import Gumbel
from watermark.word_sources import Null, Pairs, WordSource

__all__ = ["N_CELLS", "TextSealWords", "green_cells"]

N_CELLS: Final = 8191
_METHODS: Final = ("uniform", "binary")
_CONTEXT: Final = np.array(
    "10000019 10000247 10000439 10000643 10000747 "
    "10000867 10000993 10001213 10001357 10001501".split(),
    np.uint64,
)
_TOKEN, _KEY, _SPREAD = 100000007, 500001713, 15485863 * 40499
_TOKEN_STEP = np.uint64(_TOKEN * _SPREAD % 2**64)
_KEY_STEP = np.uint64(_KEY * _SPREAD % 2**64)
_SHIFT = np.int64(13)
_CELLS: Final = np.arange(N_CELLS)
_WORDS: Final = {
    # Rounded down: a uniform word of the cell is never below it.
    "uniform": ((_CELLS << 32) // N_CELLS).astype(np.uint32),
    "binary": cell_words(_CELLS, N_CELLS),
}
# Words computed at a time for many keys: their arrays stay in the cache.
_CHUNK_WORDS: Final = 1 << 15


@final
@dataclass(frozen=True)
class TextSealWords(WordSource):
    """TextSeal's hash as a source of words.

    A key is one integer, `secret_key` (plus the index of a source, if the deployment has several),
    or with two keys `secret_key` and `secret_key_b` (by default `secret_key` + 12345); the stream
    is the key's place. A negative one is given plus 2^64.

    Attributes:
        method: "uniform" for Gumbel-max, "binary" for green lists.
        dual_key: True for the two keys of "textseal". With `mixing_alpha`, the probability of its
            key A, the scheme is dual-gumbel with alpha = 1 - `mixing_alpha`; below 1/2 it is
            alpha = `mixing_alpha`, and the keys are given in the other order.
    """

    name: ClassVar[str] = "textseal"

    method: str = "uniform"
    dual_key: bool = False

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ConfigError(
                f"{self.name}: method must be one of {', '.join(_METHODS)}, got {self.method!r}"
            )
        if type(self.dual_key) is not bool or (self.dual_key and self.method == "binary"):
            raise ConfigError(
                f"{self.name}: dual_key must be true or false, and goes with the method uniform; "
                f"got {self.dual_key!r} and {self.method}"
            )

    @property
    def n_key_integers(self) -> int:
        """One, or two for dual keys."""
        return 2 if self.dual_key else 1

    @property
    def marks_repeats(self) -> bool:
        """True: no history is kept."""
        return True

    @property
    def tells_pairs_apart(self) -> bool:
        """False: only a weighted sum of context and token is hashed."""
        return False

    @property
    def null(self) -> Null:
        """Decoys: a text marked under one key is found under others far too often."""
        return "decoys"

    def check(self, scheme: Scheme, context_width: int) -> None:
        """Allow what the library has and the method makes; see `WordSource.check`."""
        if not 1 <= context_width <= len(_CONTEXT):
            raise ConfigError(
                f"{self.name} hashes 1 to {len(_CONTEXT)} tokens of context, got {context_width}"
            )
        if self.method == "binary":
            if not (isinstance(scheme, GreenList) and scheme.n_cells == N_CELLS):
                raise ConfigError(
                    f"{self.name} with the method binary marks by the scheme green-list with "
                    f"n_cells {N_CELLS} (n_green {green_cells(0.5)} for gamma 0.5); got "
                    f"{scheme.name} {scheme.parameters()}"
                )
        elif not isinstance(scheme, DualGumbel if self.dual_key else Gumbel):
            raise ConfigError(
                f"{self.name} with the method uniform marks by the scheme gumbel, or dual-gumbel "
                f"with dual_key; got {scheme.name} and dual_key {self.dual_key}"
            )

    def context_hashes(
        self, key: NDArray[np.uint64], contexts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Sum up contexts and keys; see `WordSource.context_hashes`.

        Returns:
            uint64, shape (n, n_key_integers): a column for each stream.
        """
        return _context_sums(contexts)[:, None] * np.uint64(_SPREAD) + key * _KEY_STEP

    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Compute words; see `WordSource.words`."""
        base = hashes[:, stream] if token_ids.ndim == 1 else hashes[:, stream, None]
        return self._words(base + token_ids.astype(np.uint64) * _TOKEN_STEP)

    def words_for_keys(
        self,
        keys: NDArray[np.uint64],
        contexts: NDArray[np.int64],
        pair_context: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        n_streams: int,
    ) -> NDArray[np.uint32]:
        """Compute the words of the same pairs under many keys: one addition tells keys apart."""
        sums = _context_sums(contexts)[pair_context] * np.uint64(_SPREAD)
        spread = sums + token_ids.astype(np.uint64) * _TOKEN_STEP
        found = np.empty((len(keys), n_streams, len(token_ids)), np.uint32)
        size = max(_CHUNK_WORDS // max(len(token_ids) * n_streams, 1), 1)
        for start in range(0, len(keys), size):
            shifts = keys[start : start + size, :n_streams] * _KEY_STEP
            found[start : start + size] = self._words(shifts[:, :, None] + spread)
        return found

    def canonical(self, pairs: Pairs) -> Pairs:
        """Give pairs with the same sum the same pair: (0, .., 0, x) and token 0."""
        sums = _context_sums(pairs.contexts) + np.uint64(_TOKEN) * pairs.tokens.astype(np.uint64)
        last = int(_CONTEXT[pairs.contexts.shape[1] - 1])
        contexts = np.zeros_like(pairs.contexts)
        contexts[:, -1] = (sums * np.uint64(pow(last, -1, 1 << 64))).view(np.int64)
        return Pairs(contexts, np.zeros_like(pairs.tokens))

    def _words(self, spread: NDArray[np.uint64]) -> NDArray[np.uint32]:
        signed = spread.view(np.int64)
        # Never negative: the shift repeats the sign, and xor takes it away.
        mixed = signed ^ signed >> _SHIFT
        words: NDArray[np.uint32] = np.take(_WORDS[self.method], mixed % np.int64(N_CELLS))
        return words


def green_cells(gamma: float) -> int:
    """Count the green cells of a fraction: what a green-list scheme calls n_green.

    Args:
        gamma: TextSeal's `gamma`.

    Returns:
        How many cells k have k / 8191 < gamma, in TextSeal's own float32; at 0.5 they are 4,096.
    """
    shares = _CELLS.astype(np.float32) / np.float32(N_CELLS)
    return int((shares < np.float32(gamma)).sum())


def _context_sums(contexts: NDArray[np.int64]) -> NDArray[np.uint64]:
    primes = _CONTEXT[: contexts.shape[1]]
    sums: NDArray[np.uint64] = (contexts.astype(np.uint64) * primes).sum(axis=1, dtype=np.uint64)
    return sums
