"""SGLang's Gumbel mark (0.5.23): Murmur3 of the key, a hash of the context, and the token.

    context_hash = murmur3(c_1, .., c_h)
    word         = murmur3(key_low, key_high, context_hash, token)

argmax(log u / p) with u = (word + 1/2) / 2^32 is Gumbel-max. The context is the last h tokens of
prompt *and* answer, so that the first h tokens of an answer need the prompt; they are not scored.
A context is marked once in an answer, and no more than 4,096 of them: what comes later is as
unmarked as what its entropy gate (`max_probability`) lets through, which costs power only.

With a second key a coin that is itself keyed, murmur3(both keys, context_hash) below
floor(P 2^32), decides which key marks a context. Who knows the keys knows the coin: the word here
is that of the chosen key, and the scheme is Gumbel with one stream, with no evidence lost.

How random the words are. Each step of the hash is a bijection of its state, so that a word is
exactly uniform under a uniform key. The hash state after the key has 32 bits: of the 2^64 keys,
2^32 differ, and the words of a text have at most 2^32 joint outcomes (two keys: 2^64 and the coin).
The context hash has 32 bits and no key: two contexts of two or more tokens have the same words
with probability 2^-32, so that among n pairs the variance of a sum is larger by a factor of about
1 + n q / 2^32, q the chance that two tokens are equal: below 1 + 3e-6 for a million pairs. Two
tokens of one context never share a word; of two contexts they can under every key only if their ids
differ by 1,001,455,616, which no vocabulary has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.schemes import Scheme
from watermark.schemes.gumbel import Gumbel
from watermark.word_sources import WordSource

__all__ = ["SglangWords"]

_MAX_CONTEXT_WIDTH: Final = 64
_C1, _C2 = np.uint32(0xCC9E2D51), np.uint32(0x1B873593)
_F1, _F2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_FIVE, _N = np.uint32(5), np.uint32(0xE6546B64)
_START: Final = np.zeros(1, np.uint32)
# Bytes that each use of the hash has taken in, which its end mixes in.
_WORD_BYTES, _COIN_BYTES = np.uint32(16), np.uint32(20)
# Words computed at a time for many keys: their arrays stay in the cache.
_CHUNK_WORDS: Final = 1 << 16


@final
@dataclass(frozen=True)
class SglangWords(WordSource):
    """SGLang's hash as a source of words, with one key or two.

    A key is one integer, or key A and key B, as the engine reads its hex digits.

    Attributes:
        mixing_probability: of key A, in (0, 1), in a server with `key_b`; None without.
    """

    name: ClassVar[str] = "sglang-gumbel"

    mixing_probability: float | None = None

    def __post_init__(self) -> None:
        p = self.mixing_probability
        if p is not None and not (isinstance(p, float) and 0 < p < 1):
            raise ConfigError(
                f"{self.name}: mixing_probability must be a number in (0, 1), or null for a "
                f"server without key_b; got {p!r}"
            )

    @property
    def n_key_integers(self) -> int:
        """One, or two with key B."""
        return 1 if self.mixing_probability is None else 2

    @property
    def distinct_key_bits(self) -> int:
        """32, the hash state after a key; of two keys, one alone marks its part of the contexts."""
        return 32

    def check(self, scheme: Scheme, context_width: int) -> None:
        """Allow what the server's configuration allows; see `WordSource.check`."""
        if not isinstance(scheme, Gumbel):
            raise ConfigError(
                f"{self.name} marks by the scheme gumbel, also with two keys (their coin is known "
                f"to whoever knows the keys); got {scheme.name}"
            )
        if not 1 <= context_width <= _MAX_CONTEXT_WIDTH:
            raise ConfigError(
                f"{self.name} has context windows of 1 to {_MAX_CONTEXT_WIDTH}, got {context_width}"
            )

    def context_hashes(
        self, key: NDArray[np.uint64], contexts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Hash contexts after the key that marks each; see `WordSource.context_hashes`."""
        return self._states(key[None], _hash_contexts(contexts)).T.astype(np.uint64)

    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Compute words; see `WordSource.words`. There is one stream only."""
        states = hashes.astype(np.uint32)
        return _end(_mix(states[:, 0] if token_ids.ndim == 1 else states, token_ids), _WORD_BYTES)

    def words_for_keys(
        self,
        keys: NDArray[np.uint64],
        contexts: NDArray[np.int64],
        pair_context: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        n_streams: int,
    ) -> NDArray[np.uint32]:
        """Compute the words of the same pairs under many keys, hashing contexts once for all."""
        hashed = _hash_contexts(contexts)
        found = np.empty((len(keys), 1, len(token_ids)), np.uint32)
        size = max(_CHUNK_WORDS // max(len(token_ids), 1), 1)
        for start in range(0, len(keys), size):
            some = slice(start, start + size)
            states = self._states(keys[some], hashed)[:, pair_context]
            found[some, 0] = _end(_mix(states, token_ids), _WORD_BYTES)
        return found

    def _states(self, keys: NDArray[np.uint64], hashed: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Mix the chosen key, then the context.

        Args:
            keys: uint64, shape (M, n_key_integers).
            hashed: uint32, shape (C,), context hashes.

        Returns:
            uint32, shape (M, C).
        """
        key_a = _mix_key(_START, keys[:, 0])
        states = _mix(key_a[:, None], hashed)
        if self.mixing_probability is None:
            return states
        coins = _end(_mix(_mix_key(key_a, keys[:, 1])[:, None], hashed), _COIN_BYTES)
        threshold = np.uint32(int(self.mixing_probability * 2**32))
        of_key_b = _mix(_mix_key(_START, keys[:, 1])[:, None], hashed)
        return np.where(coins < threshold, states, of_key_b)


def _hash_contexts(contexts: NDArray[np.int64]) -> NDArray[np.uint32]:
    states = np.zeros(len(contexts), np.uint32)
    for column in contexts.T:
        states = _mix(states, column)
    return _end(states, np.uint32(4 * contexts.shape[1]))


def _mix_key(states: NDArray[np.uint32], keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Take in keys, low half first."""
    return _mix(_mix(states, keys), keys >> np.uint64(32))


def _mix(
    states: NDArray[np.uint32], blocks: NDArray[np.uint32] | NDArray[np.uint64] | NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Take in one block each, by its low 32 bits: the body of MurmurHash3 x86-32."""
    mixed = _rotated(blocks.astype(np.uint32) * _C1, 15) * _C2
    return _rotated(states ^ mixed, 13) * _FIVE + _N


def _end(states: NDArray[np.uint32], n_bytes: np.uint32) -> NDArray[np.uint32]:
    """Finish: the length and the last mix of MurmurHash3."""
    x = states ^ n_bytes
    x = (x ^ x >> np.uint32(16)) * _F1
    x = (x ^ x >> np.uint32(13)) * _F2
    return x ^ x >> np.uint32(16)


def _rotated(x: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    return x << np.uint32(bits) | x >> np.uint32(32 - bits)
