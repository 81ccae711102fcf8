"""SynthID-Text as Hugging Face transformers has it (and Google's own package until 2025-06).

The g-value of layer l is table[hash modulo 65,536], the table 65,536 bits drawn once and for all
(`torch.randint` from seed 0), the hash that of `watermark.interop.synthid_hash`. So only the low 16
bits of anything matter: every (context, token) pair falls into one of 65,536 classes, and with s
its number,

    g_l = shifted[(s + key_l) mod 65,536],   shifted[x] = table[(a x + 1) mod 65,536]

- Pairs of one class share all their g-values under every key: `canonical`.
- A layer has one of 65,536 keys, each a rotation of the same bits. Over uniform keys, what it sums
  to on given pairs is a circular correlation, known exactly: `layers`. Exact for any text, whatever
  repeats in it, and however the hash treats it.
- The words are neither fair nor independent: the default table has 32,743 ones (49.96 %), and two
  pairs are two entries of one table. Fair independent bits are the wrong null, above all where
  another key of the same table marked the text: one of its layers has our key with probability
  m^2 / 65,536, 1.4 % for 30 layers.
- Keys that are equal modulo 65,536 are equal. Small ones such as those of examples are not uniform.

Contexts start as zeros in the system, and never hold prompt tokens: pairs without a whole context
of their own are marked there, and not scored here. A context that was met among the last 1,024 is
not marked again. Source: transformers 5.23, generation/logits_process.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.interop.synthid_hash import (
    MULTIPLIER,
    after_tokens,
    check_layers,
    check_tournament,
    hash_contexts,
)
from watermark.schemes import Scheme
from watermark.word_sources import Layers, Null, Pairs, WordSource

__all__ = ["TransformersSynthID"]

_START: Final = 1
_LARGEST_TABLE: Final = 1 << 20
# From here on all words of a key are made first, and looked up.
_LOOK_UP_FROM: Final = 4096


@final
@dataclass(frozen=True)
class TransformersSynthID(WordSource):
    """Words whose top bits are transformers' g-values.

    Attributes:
        n_layers: m, how many integers the key has; transformers' `len(keys)`.
        table_size: `sampling_table_size`, a power of two from 8 to 2^20.
        table_seed: `sampling_table_seed`.
        table: the bits of the table as hexadecimal digits, first bit first, where it is not what
            torch draws on a CPU: on an accelerator the same seed gives another table. There it is
            `np.packbits(processor.sampling_table.cpu()).tobytes().hex()`. Empty for the CPU's.
    """

    name: ClassVar[str] = "transformers-synthid"
    # The system reads keys as signed 64-bit integers.
    key_bits: ClassVar[int] = 63

    n_layers: int = 30
    table_size: int = 1 << 16
    table_seed: int = 0
    table: str = ""

    def __post_init__(self) -> None:
        check_layers(self.name, self.n_layers)
        size = self.table_size
        if type(size) is not int or not 8 <= size <= _LARGEST_TABLE or size & (size - 1):
            raise ConfigError(
                f"{self.name}: table_size must be a power of two from 8 to 2^20, got {size}"
            )
        if type(self.table_seed) is not int:
            raise ConfigError(f"{self.name}: table_seed must be an integer")
        self._check_table()

    def _check_table(self) -> None:
        try:
            given = bytes.fromhex(self.table)
        except (TypeError, ValueError):
            raise ConfigError(f"{self.name}: table must be hexadecimal digits") from None
        if self.table and len(given) * 8 != self.table_size:
            raise ConfigError(
                f"{self.name}: table must have {self.table_size // 4} hexadecimal digits, one for "
                f"four bits of table_size, got {len(self.table)}"
            )

    @property
    def tells_pairs_apart(self) -> bool:
        """False: there are `table_size` classes of pairs."""
        return False

    @property
    def null(self) -> Null:
        """Of its layers: words are entries of one table."""
        return "layers"

    @property
    def n_key_integers(self) -> int:
        """One for each layer."""
        return self.n_layers

    def check(self, scheme: Scheme, context_width: int) -> None:
        """Refuse all but the tournament; see `WordSource.check`."""
        check_tournament(self.name, self.n_layers, scheme)

    def context_hashes(
        self, key: NDArray[np.uint64], contexts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Hash contexts, which no key enters; see `WordSource.context_hashes`."""
        return hash_contexts(_START, contexts)

    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Collect g-values, layer l as bit 31 - l, zeros below; see `WordSource.words`."""
        classes = self._classes(hashes, token_ids)
        if classes.size >= _LOOK_UP_FROM:
            return self._words_of(key, np.arange(self.table_size))[classes]
        return self._words_of(key, classes)

    def _words_of(self, key: NDArray[np.uint64], classes: NDArray[np.int64]) -> NDArray[np.uint32]:
        words = np.zeros(classes.shape, np.uint32)
        for layer, shift in enumerate(self._shifts(key).tolist()):
            bits = self._shifted[(classes + shift) & (self.table_size - 1)]
            words |= bits.astype(np.uint32) << np.uint32(31 - layer)
        return words

    def canonical(self, pairs: Pairs) -> Pairs:
        """Name each class by a pair: a context of zeros and a token; see `WordSource.canonical`."""
        n, h = pairs.contexts.shape
        classes = self._classes(hash_contexts(_START, pairs.contexts), pairs.tokens)
        zeros = int(hash_contexts(_START, np.zeros((1, h), np.int64))[0, 0])
        # s = (zeros + token) a + 1, solved for the token.
        inverse = pow(int(MULTIPLIER), -1, self.table_size)
        tokens = ((classes - 1) * inverse - zeros % self.table_size) % self.table_size
        return Pairs(np.zeros((n, h), np.int64), tokens)

    def layers(self, key: NDArray[np.uint64], pairs: Pairs, seed: int) -> Layers:
        """Correlate the pairs' classes with the table: the total under every layer key there is.

        Exact: counts are integers, which the rounding of a transform of 65,536 numbers cannot
        blur below some 10^9 pairs. See `WordSource.layers`; nothing is drawn.
        """
        classes = self._classes(hash_contexts(_START, pairs.contexts), pairs.tokens)
        counts = np.bincount(classes, minlength=self.table_size)
        product = np.conj(np.fft.rfft(counts)) * np.fft.rfft(self._shifted)
        totals = np.rint(np.fft.irfft(product, self.table_size)).astype(np.int64)
        return Layers(totals, np.unique(self._shifts(key), return_inverse=True)[1])

    def _classes(
        self, hashes: NDArray[np.uint64], token_ids: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return (after_tokens(hashes, token_ids) & np.uint64(self.table_size - 1)).astype(np.int64)

    def _shifts(self, key: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (key & np.uint64(self.table_size - 1)).astype(np.int64)

    @property
    def _shifted(self) -> NDArray[np.uint8]:
        return _shifted(self.table_size, self.table_seed, self.table)


@cache
def _shifted(size: int, seed: int, table: str) -> NDArray[np.uint8]:
    """The table in the order of its keys: entry x is that of the hash of x, a x + 1."""
    hashed = np.arange(size, dtype=np.uint64) * MULTIPLIER + np.uint64(1)
    bits = _given(table) if table else _drawn(size, seed)
    shifted: NDArray[np.uint8] = bits[hashed & np.uint64(size - 1)]
    return shifted


def _given(table: str) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(table), np.uint8))


def _drawn(size: int, seed: int) -> NDArray[np.uint8]:
    """What `torch.randint(0, 2)` gives on a CPU: the low bits of MT19937's 32-bit draws."""
    # numpy's legacy seeding is the original one, and torch's; only 32 bits of the seed count.
    draws = np.random.RandomState(seed & 0xFFFFFFFF).bytes(4 * size)
    return (np.frombuffer(draws, "<u4") & 1).astype(np.uint8)
