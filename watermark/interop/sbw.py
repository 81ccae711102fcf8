"""SBW, the stateless Bernoulli watermark: a green bit for each token by Philox4x32-10, no list.

    word = Philox(counter = (token >> 2, 0, 0, 0), key = seed)[token & 3]
    green = (word mod 2^31) < int(gamma (2^31 - 1))

The seeds are KGW's (Kirchenbauer et al. 2023), 64-bit integers that wrap:

    lefthash   seed = key * (sum of the context)
    selfhash   seed = min over the context c and the token itself of key * J(c) * J(token), signed

with J an integer hash that does not depend on the key. Source: Ceppi and Sanchez, EMNLP 2026; the
package sbw 1.0.0 (its schemes `gpu-...`, which vllm-sbw embeds; the others are KGW's shuffled
lists). SBW's context of self-hashing schemes counts the token itself: its width 4 is our 3.

Where the hash is weak, and what is done about it:

- *Sums.* lefthash cannot tell contexts of equal sums apart: `canonical` makes them one.
- *Minima.* The seed of selfhash is often that of the token itself (one time in h + 1), and then
  the same for every context; any two pairs of one token may share their word under some keys, and
  nothing but the key can tell which. Only one pair of each token is scored (`evidence`).
- *Even keys.* A seed of lefthash loses as many bits as the key has zeros at its end; one
  divisible by 2^28 is refused. With any other all sums of up to 16 ids have seeds of their own.
- *Zeros.* A seed that is 0 under every key (lefthash: a context of zeros) gives words that anyone
  can compute. There the word is the largest, red, so that nobody is accused by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError, FingerprintError
from watermark.kernels import numpy_prf
from watermark.keys import Key
from watermark.schemes import Scheme
from watermark.schemes.green_list import GreenList
from watermark.word_sources import Pairs, WordSource

__all__ = ["N_CELLS", "Sbw", "sbw_green_list"]

# SBW draws 31 bits, as torch's CPU generator does.
N_CELLS: Final = 1 << 31
_SEEDINGS: Final = ("lefthash", "selfhash")
# 16 ids of 32 bits have sums below 2^36: 64 - 28 bits of a seed tell them apart.
_MAX_KEY_ZEROS: Final = 28
_RED: Final = np.uint32(0xFFFFFFFF)
# Below this many words numpy is done before numba has been imported (0.5 s).
_COMPILE_FROM: Final = 500_000


def sbw_green_list(gamma: float, delta: float) -> GreenList:
    """Make the scheme of an SBW deployment.

    Args:
        gamma: SBW's green share; one sent with a request to vllm-sbw is a 32-bit float there.
        delta: SBW's logit bias.

    Returns:
        The scheme: int(gamma (2^31 - 1)) of 2^31 cells are green.
    """
    return GreenList(int(gamma * (N_CELLS - 1)), N_CELLS, delta)


@final
@dataclass(frozen=True)
class Sbw(WordSource):
    """Words of SBW.

    SBW marks repeats too. Its detector compares floats of 24 bits with gamma, its sampler integers
    with int(gamma (2^31 - 1)); they differ in at most 128 of 2^31 cells, and the sampler is right.

    Attributes:
        seeding: "lefthash" or "selfhash".
    """

    name: ClassVar[str] = "sbw"

    seeding: str = "lefthash"

    def __post_init__(self) -> None:
        if self.seeding not in _SEEDINGS:
            raise ConfigError(
                f"{self.name}: seeding must be one of {', '.join(_SEEDINGS)}, got {self.seeding!r}"
            )

    @property
    def n_key_integers(self) -> int:
        """One."""
        return 1

    @property
    def marks_repeats(self) -> bool:
        """True: SBW keeps no history."""
        return True

    @property
    def tells_pairs_apart(self) -> bool:
        """False: sums and minima do not; see `WordSource.tells_pairs_apart`."""
        return False

    def check(self, scheme: Scheme, context_width: int) -> None:
        """Refuse what SBW does not have; see `WordSource.check`."""
        if not isinstance(scheme, GreenList) or scheme.n_cells != N_CELLS:
            raise ConfigError(
                f"{self.name} goes with the scheme green-list of n_cells = {N_CELLS} and "
                f"n_green = int(gamma * {N_CELLS - 1}), got {scheme.name}"
            )
        if self.seeding == "lefthash" and context_width < 1:
            raise ConfigError(f"{self.name}: lefthash needs a context width of at least 1, got 0")

    def key_of(self, key: Key) -> NDArray[np.uint64]:
        """Take the key, and refuse one that makes few seeds; see `WordSource.key_of`."""
        integers = super().key_of(key)
        if int(integers[0]) % (1 << _MAX_KEY_ZEROS) == 0:
            raise FingerprintError(
                f"{self.name}: key {key.key_id} is divisible by 2^{_MAX_KEY_ZEROS}: contexts would "
                "share their words, and anyone could guess them; give an odd key"
            )
        return integers

    def canonical(self, pairs: Pairs) -> Pairs:
        """Put the sum of a lefthash context in its last place; see `WordSource.canonical`."""
        if self.seeding == "selfhash":
            return pairs
        contexts = np.zeros_like(pairs.contexts)
        contexts[:, -1] = pairs.contexts.sum(axis=1)
        return Pairs(contexts, pairs.tokens)

    def evidence(self, pairs: Pairs) -> NDArray[np.int64]:
        """Of selfhash the token alone; see the module and `WordSource.evidence`."""
        if self.seeding == "selfhash":
            return pairs.tokens[:, None]
        return super().evidence(pairs)

    def context_hashes(
        self, key: NDArray[np.uint64], contexts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Multiply a context's sum, or each of its tokens' hashes, by the key.

        Args:
            key: uint64, shape (1,), two's complement where SBW's key is negative.
            contexts: int64, shape (n, h).

        Returns:
            uint64, shape (n, 1) or, for selfhash, (n, h).
        """
        hashes: NDArray[np.uint64] = key[0] * self._context_factors(contexts).view(np.uint64)
        return hashes

    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Compute words, rotated so that the cell is their upper 31 bits; see `WordSource.words`.

        Green is then a word below 2 n_green, and all 32 bits are uniform.
        """
        candidates = token_ids[:, None] if token_ids.ndim == 1 else token_ids
        if self.seeding == "lefthash":
            products = np.broadcast_to(hashes, candidates.shape)[..., None]
        else:
            own = _jenkins(candidates).view(np.uint64)
            factors = np.broadcast_to(hashes[:, None], (*candidates.shape, hashes.shape[1]))
            products = np.concatenate([factors, (key[0] * own)[..., None]], axis=2) * own[..., None]
        return _words_of(products, candidates).reshape(token_ids.shape)

    def words_for_keys(
        self,
        keys: NDArray[np.uint64],
        contexts: NDArray[np.int64],
        pair_context: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        n_streams: int,
    ) -> NDArray[np.uint32]:
        """Compute the words of the same pairs under many keys, compiled for many."""
        if len(keys) * len(token_ids) < _COMPILE_FROM:
            return super().words_for_keys(keys, contexts, pair_context, token_ids, n_streams)
        from watermark.kernels import numba_sbw

        factors = self._context_factors(contexts)[pair_context]
        if self.seeding == "selfhash":
            own = _jenkins(token_ids)[:, None]
            factors = np.concatenate([factors, own], axis=1) * own
        words = numba_sbw.words_for_keys(keys[:, 0], factors, token_ids)
        return np.repeat(words[:, None], n_streams, axis=1)

    def _context_factors(self, contexts: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the key is multiplied by, int64, shape (n, 1) or, for selfhash, (n, h)."""
        if self.seeding == "selfhash":
            return _jenkins(contexts)
        sums: NDArray[np.int64] = contexts.sum(axis=1, keepdims=True)
        return sums


def _words_of(products: NDArray[np.uint64], token_ids: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Compute words from what a seed is the least of.

    Args:
        products: uint64, shape (n, K, r), to be read as signed.
        token_ids: int64, shape (n, K).

    Returns:
        uint32, shape (n, K).
    """
    seeds = products.view(np.int64).min(axis=2).view(np.uint64).reshape(-1)
    hashes = np.stack([seeds, np.zeros_like(seeds)], axis=1)
    flat, streams = token_ids.reshape(-1, 1), np.zeros(len(seeds), np.uint64)
    if len(seeds) < _COMPILE_FROM:
        drawn = numpy_prf.words(hashes, flat, streams)
    else:
        from watermark.kernels import numba_prf

        drawn = numba_prf.words(hashes, flat, streams)
    rotated = (drawn << np.uint32(1)) | (drawn >> np.uint32(31))
    return np.where((products == 0).any(axis=2), _RED, rotated.reshape(token_ids.shape))


def _jenkins(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hash ids by Jenkins' mix of 32 bits, with shifts that keep the sign.

    Args:
        ids: int64, any shape.

    Returns:
        int64 in [-2^31, 2^31), the same shape.
    """
    i = (ids + 1).astype(np.int32)
    i = i - (i << np.int32(6))
    i = i ^ (i >> np.int32(17))
    i = i - (i << np.int32(9))
    i = i ^ (i << np.int32(4))
    i = i - (i << np.int32(3))
    i = i ^ (i << np.int32(10))
    i = i ^ (i >> np.int32(15))
    return i.astype(np.int64)
