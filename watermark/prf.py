"""`heirmark-1`, the only keyed randomness of the project.

    word = PRF(key, context, token, stream), a uniform 32-bit integer

`watermark.prf_reference` defines it in plain Python. Here the same integers come from numpy for
short inputs and from numba for long ones; `watermark.kernels.torch_prf` serves accelerators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError, FingerprintError
from watermark.kernels import numpy_prf
from watermark.keys import EngineKey, Key, SecretKey
from watermark.schemes import Scheme
from watermark.word_sources import WordSource

__all__ = ["NATIVE", "PRF_NAME", "NativePrf", "Prf", "words_by_row", "words_for_keys"]

PRF_NAME: Final = "heirmark-1"
_MAX_ID: Final = 0xFFFFFFFF
# Below this many words numpy is done before numba has been imported (0.5 s).
_COMPILE_FROM: Final = 500_000


@final
class Prf:
    """The PRF under one key. Immutable; shows no key material.

    A 128-bit SipHash key is what remains of the 256-bit secret here; it comes from
    `SecretKey.subkey`, so that nothing else is ever computed under it.
    """

    __slots__ = ("_k0", "_k1")

    def __init__(self, k0: int, k1: int) -> None:
        self._k0, self._k1 = np.uint64(k0), np.uint64(k1)

    @classmethod
    def from_key(cls, key: SecretKey) -> Self:
        """Make the PRF of a secret key."""
        material = key.subkey("prf " + PRF_NAME, 16)
        return cls(int.from_bytes(material[:8], "little"), int.from_bytes(material[8:], "little"))

    @property
    def sip_key(self) -> NDArray[np.uint64]:
        """The SipHash key as uint64, shape (2,). Secret: for kernels only."""
        return np.array([self._k0, self._k1], np.uint64)

    def context_hashes(self, contexts: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Hash contexts.

        Args:
            contexts: int64, shape (n, h), token ids in [0, 2^32), oldest first; h may be 0.

        Returns:
            uint64, shape (n, 2).

        Raises:
            ConfigError: an id outside [0, 2^32).
        """
        _check_ids(contexts)
        if contexts.size < _COMPILE_FROM:
            return numpy_prf.context_hashes(self._k0, self._k1, contexts)
        from watermark.kernels import numba_prf

        return numba_prf.context_hashes(self._k0, self._k1, contexts)

    def words(
        self,
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int | NDArray[np.uint64] = 0,
    ) -> NDArray[np.uint32]:
        """Compute words for hashed contexts.

        Args:
            hashes: uint64, shape (n, 2), from `context_hashes`.
            token_ids: int64, shape (n,) one token per context, or (n, K) candidates.
            stream: which word stream, below 2^32; one for all, or uint64 of shape (n,).

        Returns:
            uint32, the shape of `token_ids`.

        Raises:
            ConfigError: an id outside [0, 2^32).
        """
        _check_ids(token_ids)
        candidates = token_ids[:, None] if token_ids.ndim == 1 else token_ids
        streams = np.broadcast_to(np.asarray(stream, np.uint64), (len(hashes),))
        if candidates.size < _COMPILE_FROM:
            return numpy_prf.words(hashes, candidates, streams).reshape(token_ids.shape)
        from watermark.kernels import numba_prf

        return numba_prf.words(hashes, candidates, streams).reshape(token_ids.shape)

    def __repr__(self) -> str:
        return f"Prf({PRF_NAME}, key hidden)"


@final
@dataclass(frozen=True)
class NativePrf(WordSource):
    """`heirmark-1` as a source of words."""

    name: ClassVar[str] = PRF_NAME

    @property
    def n_key_integers(self) -> int:
        """Two: the 128-bit SipHash key."""
        return 2

    def check(self, scheme: Scheme, context_width: int) -> None:
        """Refuse nothing: every scheme and width goes with our own words."""

    def key_of(self, key: Key) -> NDArray[np.uint64]:
        """Derive the SipHash key; see `WordSource.key_of`."""
        return self.under(key).sip_key

    def under(self, key: Key) -> Prf:
        """Return the PRF under a key of ours; see `WordSource.under`."""
        if isinstance(key, EngineKey):
            raise FingerprintError(
                f"key {key.key_id} belongs to another engine's mark, the config to heirmark's own; "
                "give the config that describes that engine"
            )
        return Prf.from_key(key)

    def context_hashes(
        self, key: NDArray[np.uint64], contexts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Hash contexts; see `WordSource.context_hashes`."""
        return Prf(int(key[0]), int(key[1])).context_hashes(contexts)

    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Compute words; see `WordSource.words`."""
        return Prf(int(key[0]), int(key[1])).words(hashes, token_ids, stream)

    def words_for_keys(
        self,
        keys: NDArray[np.uint64],
        contexts: NDArray[np.int64],
        pair_context: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        n_streams: int,
    ) -> NDArray[np.uint32]:
        """Compute the words of the same pairs under many keys, compiled for many."""
        return words_for_keys(keys, contexts, pair_context, token_ids, n_streams)


NATIVE: Final = NativePrf()


def words_by_row(
    sip_keys: NDArray[np.uint64],
    contexts: NDArray[np.int64],
    token_ids: NDArray[np.int64],
    streams: NDArray[np.uint64],
) -> NDArray[np.uint32]:
    """Compute the words of a batch whose rows have keys of their own.

    Args:
        sip_keys: uint64, shape (B, 2).
        contexts: int64, shape (B, h).
        token_ids: int64, shape (B, K), candidates; faster when ascending in each row.
        streams: uint64, shape (B,).

    Returns:
        uint32, shape (B, K).
    """
    hashes = numpy_prf.context_hashes(sip_keys[:, 0], sip_keys[:, 1], contexts)
    if token_ids.size < _COMPILE_FROM:
        return numpy_prf.words(hashes, token_ids, streams)
    from watermark.kernels import numba_prf

    return numba_prf.words(hashes, token_ids, streams)


def words_for_keys(
    sip_keys: NDArray[np.uint64],
    contexts: NDArray[np.int64],
    pair_context: NDArray[np.int64],
    token_ids: NDArray[np.int64],
    n_streams: int,
) -> NDArray[np.uint32]:
    """Compute the words of the same pairs under many keys.

    Args:
        sip_keys: uint64, shape (M, 2).
        contexts: int64, shape (C, h), the distinct contexts.
        pair_context: int64, shape (n,), row of `contexts` that each pair has.
        token_ids: int64, shape (n,).
        n_streams: streams 0 .. n_streams - 1 are computed.

    Returns:
        uint32, shape (M, n_streams, n).
    """
    _check_ids(contexts)
    _check_ids(token_ids)
    if len(sip_keys) * len(token_ids) * n_streams < _COMPILE_FROM:
        return _words_for_keys(sip_keys, contexts, pair_context, token_ids, n_streams)
    from watermark.kernels import numba_prf

    return numba_prf.words_for_keys(sip_keys, contexts, pair_context, token_ids, n_streams)


def _words_for_keys(
    sip_keys: NDArray[np.uint64],
    contexts: NDArray[np.int64],
    pair_context: NDArray[np.int64],
    token_ids: NDArray[np.int64],
    n_streams: int,
) -> NDArray[np.uint32]:
    """In numpy, all keys at once: one row for each key and context."""
    n_keys, n_contexts = len(sip_keys), len(contexts)
    rows = np.repeat(sip_keys, n_contexts, axis=0)
    hashes = numpy_prf.context_hashes(rows[:, 0], rows[:, 1], np.tile(contexts, (n_keys, 1)))
    own = hashes.reshape(n_keys, n_contexts, 2)[:, pair_context].reshape(-1, 2)
    tokens = np.tile(token_ids, n_keys)[:, None]
    words = [
        numpy_prf.words(own, tokens, np.full(len(own), stream, np.uint64)).reshape(n_keys, -1)
        for stream in range(n_streams)
    ]
    return np.stack(words, axis=1)


def _check_ids(ids: NDArray[np.int64]) -> None:
    if ids.size and (ids.min() < 0 or ids.max() > _MAX_ID):
        raise ConfigError(
            f"token ids must lie in [0, 2^32), got {ids.min()} to {ids.max()}; "
            "cut padding marks such as -100 away first"
        )
