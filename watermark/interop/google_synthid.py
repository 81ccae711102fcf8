"""SynthID-Text as Google's own package has it since 2025-06: hash and no table.

Before, the package had the hash of transformers (`watermark.interop.transformers_synthid`); the
release on PyPI, 0.2.1, still has. Now, with IV = SHA-256 of the keys (as int64, little-endian)
modulo 2^63 - 1, and s the hash of `watermark.interop.synthid_hash` over context and token, begun
at IV:

    x <- (s + key_l) a + 1;   twelve times: x <- ((x + 1) a + 1) >> 5;   g_l = bit 30 of x

The shift is arithmetic. What that means for evidence (numbers: tests/watermark/interop):

- s is linear in IV and in the tokens, so that pairs with equal sums over tokens, modulo 2^64, share
  everything. In a text nobody tries for it, that does not happen: all pairs are told apart.
- Twelve rounds do not mix enough. Under a random key, g-values of any two pairs are correlated by
  some 0.03 either way, of neighbouring tokens after the same context by 0.023, of hashes that
  differ in the top bit by -0.28. Sums over random text vary as fair independent bits would, over
  2,000 tokens after one context only 0.78 times as much: nothing guarantees which side it is on.
- The layers are the same function of the pair, shifted by keys of their own, and independent if
  these are. So the null is not taken from a law of words: the layer is played under many other
  layer keys on the very same pairs (`layers`), which makes the p-value exact for any text. It is
  keys drawn uniformly that this holds for: layers whose keys differ by 1, say, are correlated too
  (the sum over keys 0 to 29 varied 0.83 times as much as it should, over small random ones 1.02).

Contexts and repeats as in transformers. Source: github.com/google-deepmind/synthid-text, commit
addb4a1 (2025-06-13), src/synthid_text/logits_processing.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from watermark.interop.synthid_hash import (
    accumulate,
    after_tokens,
    check_layers,
    check_tournament,
    hash_contexts,
)
from watermark.schemes import Scheme
from watermark.word_sources import Layers, Null, Pairs, WordSource

__all__ = ["GoogleSynthID"]

_ONE: Final = np.uint64(1)
_ROUNDS: Final = 12
_SHIFT: Final = np.int64(5)
_BIT: Final = np.uint64(30)
# Below this many g-values numpy is done before numba has been imported.
_COMPILE_FROM: Final = 300_000
# Layer keys drawn for `layers`: as many as this many g-values allow, within bounds.
_BUDGET: Final = 20_000_000
_LEAST_DRAWN: Final = 1024
_MOST_DRAWN: Final = 16_384


@final
@dataclass(frozen=True)
class GoogleSynthID(WordSource):
    """Words whose top bits are the package's g-values.

    Attributes:
        n_layers: m, how many integers the key has; the package's `len(keys)`.
    """

    name: ClassVar[str] = "google-synthid"
    # The system reads keys as signed 64-bit integers.
    key_bits: ClassVar[int] = 63

    n_layers: int = 30

    def __post_init__(self) -> None:
        check_layers(self.name, self.n_layers)

    @property
    def null(self) -> Null:
        """Of its layers: the hash mixes too little for words to be independent."""
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
        """Hash contexts, begun at a hash of the whole key; see `WordSource.context_hashes`."""
        digest = hashlib.sha256(key.astype("<u8").tobytes()).digest()
        return hash_contexts(int.from_bytes(digest, "big") % ((1 << 63) - 1), contexts)

    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Collect g-values, layer l as bit 31 - l, zeros below; see `WordSource.words`."""
        states = after_tokens(hashes, token_ids)
        if states.size * len(key) >= _COMPILE_FROM:
            from watermark.kernels import numba_synthid

            return numba_synthid.words(states.reshape(-1), key).reshape(states.shape)
        words = np.zeros(states.shape, np.uint32)
        for layer in range(len(key)):
            words |= _g_values(states, key[layer : layer + 1]).astype(np.uint32) << np.uint32(
                31 - layer
            )
        return words

    def layers(self, key: NDArray[np.uint64], pairs: Pairs, seed: int) -> Layers:
        """Play the layer under its own keys and under others, drawn like them.

        The beginning of the hash, IV, stays that of the key: given it, layer keys are still
        independent and uniform, SHA-256 being random. See `WordSource.layers`.
        """
        own, same = np.unique(key, return_inverse=True)
        n_drawn = min(max(_BUDGET // len(pairs.tokens), _LEAST_DRAWN), _MOST_DRAWN)
        top = (1 << self.key_bits) - 1
        drawn = np.random.default_rng(seed).integers(0, top, n_drawn, np.uint64, True)
        states = after_tokens(self.context_hashes(key, pairs.contexts), pairs.tokens)
        return Layers(_totals(states, np.concatenate([own, drawn])), same)


def _totals(states: NDArray[np.uint64], layer_keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    if len(states) * len(layer_keys) >= _COMPILE_FROM:
        from watermark.kernels import numba_synthid

        return numba_synthid.totals(states, layer_keys)
    found: NDArray[np.int64] = _g_values(states, layer_keys[:, None]).sum(axis=1, dtype=np.int64)
    return found


def _g_values(states: NDArray[np.uint64], layer_keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    hashes = accumulate(states, layer_keys)
    for _ in range(_ROUNDS):
        hashes = (accumulate(hashes, _ONE).view(np.int64) >> _SHIFT).view(np.uint64)
    return (hashes >> _BIT) & _ONE
