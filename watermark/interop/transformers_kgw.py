"""The green lists of Hugging Face transformers (`WatermarkLogitsProcessor`, read in 5.23.0).

    from transformers import WatermarkingConfig
    WatermarkingConfig(greenlist_ratio=0.25, hashing_key=..., seeding_scheme="lefthash")

Kirchenbauer et al. 2023, by a torch generator on the CPU: a seed gives a permutation of the
vocabulary, and its first floor(ratio V) entries are green.

    lefthash: seed = key * last token                      (algorithm 2; one list for all tokens)
    selfhash: seed = min over w in window of key * a(w) * a(candidate)           (algorithm 3)

with a(w) = 1 + entry w of the permutation of 1,000,003 that the key itself seeds; the window holds
the candidate. Text that was marked on an accelerator has the lists of another generator, and is
not read by this source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.kernels import mt19937
from watermark.keys import Key
from watermark.schemes import Scheme
from watermark.schemes.green_list import GreenList, cell_words
from watermark.word_sources import Pairs, WordSource

if TYPE_CHECKING:
    from watermark.kernels.green_lists import GreenLists

__all__ = ["TransformersKgw"]

_SCHEMES: Final = ("lefthash", "selfhash")
_TABLE_SIZE: Final = 1_000_003
# Of the lists after different tokens, the share that must differ.
_DISTINCT: Final = 0.99
# Pairs from which on lists are kept: whole lists take longer than a few tokens' places in them.
_KEEP_FROM: Final = 100_000


@final
@dataclass(frozen=True)
class TransformersKgw(WordSource):
    """KGW as transformers does it on a CPU. The key is one integer, `hashing_key`.

    A negative key is written plus 2^64 - 1 for lefthash (Python's own product, modulo 2^64 - 1)
    and plus 2^64 for selfhash (int64); keys from 2^63 on are for lefthash alone.

    What makes it valid, and by how much it is not exact:
    - A list is drawn without replacement: `GreenList.law` says why the binomial tail is a bound.
    - A step takes draw mod (V - i) of 32 bits, so that some partners are likelier by 2^-32: a
      token is green with at most ratio + n_green 2^-32. At V = 49,152 and ratio 1/4 that is 3e-6
      more than 1/4, a hundredth of a standard deviation of the count at 10^6 tokens.
    - lefthash after token 0 has seed 0 under every key: `unkeyed_ids`.
    - lefthash lists after two tokens are equal where key * (t - t') = 0 mod 2^32. Keys for which
      that is common are refused; drawn ones are odd, for which it never happens below 2^32.
    - selfhash depends on one token of the window besides the candidate, which one the key decides,
      or on the candidate alone (in one window of w, if it has w tokens). Distinct windows around
      the same candidate share the word so often that one of them is counted (`evidence`).

    Attributes:
        seeding_scheme: "lefthash" (the context is the last token, whatever transformers'
            `context_width` is: h = 1) or "selfhash" (transformers counts the candidate, h does
            not: h = context_width - 1, 0 by default).
        vocab_size: the *model's* `config.vocab_size`, often more than the tokenizer has.
        greenlist_ratio: green share.
    """

    name: ClassVar[str] = "transformers-kgw"

    seeding_scheme: str = "lefthash"
    vocab_size: int = 49_152
    greenlist_ratio: float = 0.25

    def __post_init__(self) -> None:
        if self.seeding_scheme not in _SCHEMES:
            raise ConfigError(
                f"{self.name}: seeding_scheme must be lefthash or selfhash, "
                f"got {self.seeding_scheme!r}"
            )
        if type(self.vocab_size) is not int or not 2 <= self.vocab_size <= _TABLE_SIZE:
            raise ConfigError(
                f"{self.name}: vocab_size must lie in 2 to {_TABLE_SIZE}, got {self.vocab_size}"
            )
        if isinstance(self.greenlist_ratio, bool) or not isinstance(
            self.greenlist_ratio, int | float
        ):
            raise ConfigError(f"{self.name}: greenlist_ratio must be a number")
        if not (0 < self.greenlist_ratio < 1 and self.n_green):
            raise ConfigError(
                f"{self.name}: greenlist_ratio must lie in (0, 1) and leave a green token, "
                f"got {self.greenlist_ratio}"
            )

    @property
    def n_green(self) -> int:
        """Length of a green list."""
        return int(self.vocab_size * self.greenlist_ratio)

    @property
    def draws_without_replacement(self) -> bool:
        """True: a list is a permutation's first entries."""
        return True

    @property
    def marks_repeats(self) -> bool:
        """True: every token is marked."""
        return True

    @property
    def tells_pairs_apart(self) -> bool:
        """False for selfhash; see `evidence`."""
        return self.seeding_scheme == "lefthash"

    @property
    def unkeyed_ids(self) -> frozenset[int]:
        """Token 0, which makes every key's lefthash seed 0."""
        return frozenset([0] if self.seeding_scheme == "lefthash" else [])

    @property
    def word_cost(self) -> float:
        """A shuffle as long as the green list; benchmarks/interop_kgw.py."""
        return 30 + self.n_green / 60

    @property
    def n_key_integers(self) -> int:
        """One: `hashing_key`."""
        return 1

    @property
    def distinct_key_bits(self) -> int:
        """Of the low half of an odd key (lefthash, below 2^46), or of all (selfhash's table).

        The high half of a selfhash key changes no more than every second word.
        """
        return 31 if self.seeding_scheme == "lefthash" else 32

    def check(self, scheme: Scheme, context_width: int) -> None:
        """Refuse all but the green list of this size; see `WordSource.check`."""
        wanted = (self.n_green, self.vocab_size)
        if not isinstance(scheme, GreenList) or (scheme.n_green, scheme.n_cells) != wanted:
            raise ConfigError(
                f"{self.name} marks by green-list with n_green = {self.n_green} and "
                f"n_cells = {self.vocab_size} (greenlist_ratio of vocab_size)"
            )
        if self.seeding_scheme == "lefthash" and context_width != 1:
            raise ConfigError(
                f"{self.name}: lefthash reads the last token only, whatever transformers' "
                f"context_width is; expected context_width 1, got {context_width}"
            )

    def key_of(self, key: Key) -> NDArray[np.uint64]:
        """Take the key, and refuse one that makes no keyed lists; see `WordSource.key_of`."""
        return self._checked(super().key_of(key))

    def fresh_keys(self, n: int, seed: int) -> NDArray[np.uint64]:
        """Draw odd keys; see `WordSource.fresh_keys`."""
        return super().fresh_keys(n, seed) | np.uint64(1)

    def context_hashes(
        self, key: NDArray[np.uint64], contexts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Return the seed of the list, or a(w) of the window; see `WordSource.context_hashes`."""
        self._check_ids(contexts)
        if self.seeding_scheme == "lefthash":
            return self._left_seeds(key, contexts[:, -1]).astype(np.uint64)[:, None]
        return _table(int(key[0]) & 0xFFFFFFFF, self.vocab_size)[contexts]

    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Place the token's cell; see `WordSource.words`."""
        self._check_ids(token_ids)
        columns = token_ids[:, None] if token_ids.ndim == 1 else token_ids
        if self.seeding_scheme == "lefthash":
            seeds = hashes[:, :1].astype(np.uint32)
        else:
            table = _table(int(key[0]) & 0xFFFFFFFF, self.vocab_size)
            seeds = _self_seeds(key, hashes, table[columns])
        seeds = np.broadcast_to(seeds, columns.shape).ravel()
        return self._words(seeds, columns.ravel()).reshape(token_ids.shape)

    def scan_words(self, key: NDArray[np.uint64], pairs: Pairs, stream: int) -> NDArray[np.uint32]:
        """Look green tokens up in lists that are kept; see `WordSource.scan_words`."""
        if self.seeding_scheme != "lefthash" or len(pairs.tokens) < _KEEP_FROM:
            return super().scan_words(key, pairs, stream)
        self._check_ids(pairs.contexts)
        self._check_ids(pairs.tokens)
        lists = _green_lists(int(key[0]), self.vocab_size, self.n_green)
        previous = np.ascontiguousarray(pairs.contexts[:, -1])
        green = lists.green(lambda ids: self._left_seeds(key, ids), previous, pairs.tokens)
        either = cell_words(np.array([self.n_green, 0]), self.vocab_size)
        return either[green.view(np.uint8)]

    def words_for_keys(
        self,
        keys: NDArray[np.uint64],
        contexts: NDArray[np.int64],
        pair_context: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        n_streams: int,
    ) -> NDArray[np.uint32]:
        """Compute the words under many keys: the lists of many at once."""
        self._check_ids(contexts)
        self._check_ids(token_ids)
        found = np.empty((len(keys), n_streams, len(token_ids)), np.uint32)
        for block in mt19937.key_blocks(len(keys), len(token_ids)):
            seeds = self._seeds(keys[block], contexts, pair_context, token_ids)
            words = self._words(seeds.ravel(), np.tile(token_ids, len(seeds)))
            found[block] = words.reshape(len(seeds), 1, -1)
        return found

    def evidence(self, pairs: Pairs) -> NDArray[np.int64]:
        """For selfhash the token alone, whose windows may share their word."""
        if self.seeding_scheme == "lefthash":
            return super().evidence(pairs)
        return pairs.tokens[:, None]

    def _seeds(
        self,
        keys: NDArray[np.uint64],
        contexts: NDArray[np.int64],
        pair_context: NDArray[np.int64],
        token_ids: NDArray[np.int64],
    ) -> NDArray[np.uint32]:
        """Return the seeds of the lists of pairs under keys, shape (M, n)."""
        if self.seeding_scheme == "lefthash":
            return self._left_seeds(keys, contexts[None, :, -1])[:, pair_context]
        seeds = np.empty((len(keys), len(token_ids)), np.uint32)
        for row, key in zip(seeds, keys, strict=True):
            # Past the cache: nobody asks for a decoy's table twice.
            table = _table.__wrapped__(int(key[0]) & 0xFFFFFFFF, self.vocab_size)
            row[:] = _self_seeds(key, table[contexts[pair_context]], table[token_ids])
        return seeds

    def _left_seeds(
        self, keys: NDArray[np.uint64], tokens: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        return mt19937.low_bits(mt19937.times_modulo(keys, tokens.astype(np.uint64)))

    def _words(self, seeds: NDArray[np.uint32], tokens: NDArray[np.int64]) -> NDArray[np.uint32]:
        cells = mt19937.cells(seeds, tokens, self.vocab_size, self.n_green)
        return cell_words(cells, self.vocab_size)

    def _checked(self, key: NDArray[np.uint64]) -> NDArray[np.uint64]:
        if self.seeding_scheme == "lefthash":
            seeds = self._left_seeds(key, np.arange(1, self.vocab_size))
            if len(np.unique(seeds)) < _DISTINCT * len(seeds):
                raise ConfigError(
                    f"{self.name}: under this key different tokens have the same green list, so "
                    "that one piece of evidence would be counted many times; no p-value can be "
                    "given. Mark with an odd key, below 2^46 or drawn at random"
                )
        return key

    def _check_ids(self, ids: NDArray[np.int64]) -> None:
        if ids.size and (ids.min() < 0 or ids.max() >= self.vocab_size):
            raise ConfigError(
                f"token ids must lie in [0, {self.vocab_size}), got {ids.min()} to {ids.max()}; "
                "vocab_size is the model's config.vocab_size"
            )


# As secret as the key, and kept as the key is: in memory alone, in no repr and no pickle.
@lru_cache(maxsize=1)
def _green_lists(key: int, vocab_size: int, n_green: int) -> GreenLists:
    """Keep the lists of the key that a scan reads; the key is what they belong to."""
    from watermark.kernels.green_lists import GreenLists

    return GreenLists(vocab_size, n_green)


@lru_cache(maxsize=2)
def _table(seed: int, n_first: int) -> NDArray[np.uint64]:
    """Return a(w) of the first ids, uint64, shape (n_first,)."""
    from watermark.kernels import numba_mt19937

    entries = numba_mt19937.first_entries(seed, _TABLE_SIZE, n_first)
    return entries.astype(np.uint64) + np.uint64(1)


def _self_seeds(
    key: NDArray[np.uint64], window: NDArray[np.uint64], candidates: NDArray[np.uint64]
) -> NDArray[np.uint32]:
    """Return the seeds of candidates, shape (n, K) or (n,), after windows, shape (n, h)."""
    by_candidate = key[0] * candidates
    # int64 as torch multiplies it: the least product may be negative.
    least = (by_candidate * candidates).view(np.int64)
    for a in window.T:
        column = a if candidates.ndim == 1 else a[:, None]
        least = np.minimum(least, (by_candidate * column).view(np.int64))
    # Modulo 2^64 - 1 a negative seed is one less than its two's complement.
    seeds: NDArray[np.int64] = least - (least < 0)
    return seeds.view(np.uint64).astype(np.uint32)
