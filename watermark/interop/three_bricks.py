"""The marks of three_bricks and radioactive-watermark (Fernandez et al. 2023, Sander et al. 2024).

    seed <- starts at the key's seed; for each of the n previous tokens, oldest first:
    seed <- (seed * salt_key + token) mod (2^64 - 1)

A torch generator on the CPU, so seeded, gives a permutation of the vocabulary whose first
floor(gamma V) entries are green ("maryland", KGW), or a uniform number for each token ("openai",
Aaronson). Written from published facts about the rule; neither repository's code (CC BY-NC) is
part of this project. Only their seeding "hash" is read: the others use a table that each process
draws anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.kernels import mt19937
from watermark.keys import EngineKey, Key
from watermark.schemes import Scheme
from watermark.schemes.green_list import GreenList, cell_words
from watermark.schemes.gumbel import Gumbel
from watermark.word_sources import WordSource

__all__ = ["ThreeBricks"]

_METHODS: Final = ("maryland", "openai")
_MAX_VOCABULARY: Final = 1 << 24
_24_BITS: Final = np.uint32(0xFFFFFF)
_8: Final = np.uint32(8)
# Ids so near each other are common in one text; of random odd salts 1 in 25,000 is refused.
_NEAR_OF_2: Final = 128
_NEAR_OF_3: Final = 32


@final
@dataclass(frozen=True)
class ThreeBricks(WordSource):
    """Both marks. A key is two integers: `seed` and `salt_key` (0 and 35317 by their default).

    The default key is public: text that shows its mark may be anybody's. How exact the null is:
    - "openai" numbers are 24 bits. A word is the least of its cell, so that the score is never
      above one with the exact exponential law.
    - "maryland" lists are drawn without replacement (`GreenList.law` is a bound), with draws
      mod (V - i): a token is green with at most gamma + n_green 2^-32.
    - The seed is a polynomial of the context in salt_key, of which the low 32 bits count. A
      multiple of 4 forgets the older tokens of a context, 1 or -1 their order, and under 3 or
      65537 tables of digits share their words: such keys are refused. Drawn ones are odd.
    - With `seed` 0 and one token of context salt_key has no part in the words: no secret at all.

    Attributes:
        method: "openai" or "maryland".
        vocab_size: for "openai" the tokenizer's `vocab_size`, for "maryland" the columns of the
            logits; at most 2^24.
        gamma: green share of "maryland"; "openai" has none.
        payload: the message of three_bricks, by which the secret vector is shifted.
    """

    name: ClassVar[str] = "three-bricks"

    method: str = "openai"
    vocab_size: int = 49_152
    gamma: float = 0.5
    payload: int = 0

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ConfigError(
                f"{self.name}: method must be openai or maryland, got {self.method!r}"
            )
        if type(self.vocab_size) is not int or not 2 <= self.vocab_size <= _MAX_VOCABULARY:
            raise ConfigError(
                f"{self.name}: vocab_size must lie in 2 to {_MAX_VOCABULARY}, got {self.vocab_size}"
            )
        if isinstance(self.gamma, bool) or not isinstance(self.gamma, int | float):
            raise ConfigError(f"{self.name}: gamma must be a number")
        if not (0 < self.gamma < 1 and self.n_green):
            raise ConfigError(
                f"{self.name}: gamma must lie in (0, 1) and leave a green token, got {self.gamma}"
            )
        if type(self.payload) is not int or not 0 <= self.payload < self.vocab_size:
            raise ConfigError(
                f"{self.name}: payload must lie in [0, {self.vocab_size}), got {self.payload}"
            )

    @property
    def n_green(self) -> int:
        """Length of a green list."""
        return int(self.gamma * self.vocab_size)

    @property
    def draws_without_replacement(self) -> bool:
        """True of maryland: a list is a permutation's first entries."""
        return self.method == "maryland"

    @property
    def marks_repeats(self) -> bool:
        """True: every token is marked."""
        return True

    @property
    def word_cost(self) -> float:
        """A shuffle as long as the green list, or half the vocabulary's draws."""
        return 30 + (self.vocab_size / 600 if self.method == "openai" else self.n_green / 60)

    @property
    def n_key_integers(self) -> int:
        """Two: `seed` and `salt_key`."""
        return 2

    @property
    def distinct_key_bits(self) -> int:
        """32: after one token of context only `seed` times `salt_key`, low 32 bits, has a part."""
        return 32

    def check(self, scheme: Scheme, context_width: int) -> None:
        """Refuse all but the method's scheme; see `WordSource.check`."""
        if context_width < 1:
            raise ConfigError(f"{self.name} hashes one token or more, got {context_width}")
        if self.method == "openai":
            if not isinstance(scheme, Gumbel):
                raise ConfigError(f"{self.name}: openai marks by gumbel, got {scheme.name}")
            return
        wanted = (self.n_green, self.vocab_size)
        if not isinstance(scheme, GreenList) or (scheme.n_green, scheme.n_cells) != wanted:
            raise ConfigError(
                f"{self.name}: maryland marks by green-list with n_green = {self.n_green} and "
                f"n_cells = {self.vocab_size} (gamma of vocab_size)"
            )

    def key_of(self, key: Key) -> NDArray[np.uint64]:
        """Take the key, and refuse one that merges contexts; see `WordSource.key_of`."""
        taken = super().key_of(key)
        if isinstance(key, EngineKey):
            salt = int(taken[1])
            if _merges_contexts(salt):
                raise ConfigError(
                    f"{self.name}: under this salt_key different contexts have the same words, so "
                    "that one piece of evidence would be counted many times; no p-value can be "
                    "given. Mark with an odd salt_key drawn at random"
                )
            return taken
        return taken | _ODD_SALT

    def fresh_keys(self, n: int, seed: int) -> NDArray[np.uint64]:
        """Draw keys with odd salts; see `WordSource.fresh_keys`."""
        return super().fresh_keys(n, seed) | _ODD_SALT

    def context_hashes(
        self, key: NDArray[np.uint64], contexts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Return the seeds; see `WordSource.context_hashes`."""
        return self._seeds(key, contexts).astype(np.uint64)[:, None]

    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Place the token's number or cell; see `WordSource.words`."""
        columns = token_ids[:, None] if token_ids.ndim == 1 else token_ids
        seeds = np.broadcast_to(hashes[:, :1].astype(np.uint32), columns.shape)
        return self._words(seeds.ravel(), columns.ravel()).reshape(token_ids.shape)

    def words_for_keys(
        self,
        keys: NDArray[np.uint64],
        contexts: NDArray[np.int64],
        pair_context: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        n_streams: int,
    ) -> NDArray[np.uint32]:
        """Compute the words under many keys: the lists of many at once."""
        found = np.empty((len(keys), n_streams, len(token_ids)), np.uint32)
        for block in mt19937.key_blocks(len(keys), len(token_ids)):
            seeds = self._seeds(keys[block, None], contexts)[:, pair_context]
            words = self._words(seeds.ravel(), np.tile(token_ids, len(seeds)))
            found[block] = words.reshape(len(seeds), 1, -1)
        return found

    def _seeds(self, keys: NDArray[np.uint64], contexts: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Roll contexts, shape (n, h), under keys, shape (2,) or (M, 1, 2): (n,) or (M, n)."""
        self._check_ids(contexts)
        seed, salt = keys[..., 0], keys[..., 1]
        rolled = np.broadcast_to(seed, np.broadcast_shapes(seed.shape, (len(contexts),)))
        for column in contexts.T.astype(np.uint64):
            rolled = mt19937.plus_modulo(mt19937.times_modulo(rolled, salt), column)
        return mt19937.low_bits(rolled)

    def _words(self, seeds: NDArray[np.uint32], tokens: NDArray[np.int64]) -> NDArray[np.uint32]:
        self._check_ids(tokens)
        shifted = (tokens + self.payload) % self.vocab_size
        if self.method == "openai":
            return (mt19937.draws_at(seeds, shifted) & _24_BITS) << _8
        cells = mt19937.cells(seeds, shifted, self.vocab_size, self.n_green)
        return cell_words(cells, self.vocab_size)

    def _check_ids(self, ids: NDArray[np.int64]) -> None:
        if ids.size and (ids.min() < 0 or ids.max() >= self.vocab_size):
            raise ConfigError(
                f"token ids must lie in [0, {self.vocab_size}), got {ids.min()} to {ids.max()}; "
                "vocab_size must be the one that the text was marked with"
            )


_ODD_SALT: Final = np.array([0, 1], np.uint64)


def _merges_contexts(salt: int) -> bool:
    """Tell whether contexts of ids near each other, as digits are, often have one seed.

    With c_1 salt + c_2, those whose c_1 differ by a and c_2 by b have, if a salt + b = 0 in the low
    32 bits. Looked for: relations of two ids up to `_NEAR_OF_2`, of three up to `_NEAR_OF_3`.
    """
    if salt % 4 == 0:
        return True
    modulus, square = (1 << 64) - 1, salt * salt
    pairs = ((a * salt, _NEAR_OF_2) for a in range(1, _NEAR_OF_2 + 1))
    triples = (
        (a * square + b * salt, _NEAR_OF_3)
        for a in range(1, _NEAR_OF_3 + 1)
        for b in range(-_NEAR_OF_3, _NEAR_OF_3 + 1)
    )
    for difference, near in chain(pairs, triples):
        low = difference % modulus & 0xFFFFFFFF
        # The modulus is one less than 2^64: a sum that goes beyond it is moved by one.
        if min(low, (1 << 32) - low) <= near + 1:
            return True
    return False
