"""vLLM's own mark: Gumbel-max over Philox4x32-10, under one key or two ("philox4x32-10-v1").

vLLM 0.30 and later, `--watermark-config`; its PRF absorbs the context in blocks of four words:

    s = (0x574D4358, h, 0, 0);  s = Philox(counter = s ^ block, key = (k0 ^ offset, k1)) for each
    word = Philox(counter = (token >> 2, s0, s1, s2), key = (k0 ^ s3, k1 ^ 0x574D544B))[token & 3]

with k0 and k1 the low and high half of a 64-bit key. Source: vllm/v1/watermarking, 0.32.0.

vLLM's uniform is (word >> 8) + 1 over 2^24 + 1; we score all 32 bits of the word. **The null is
exact**, as for our own PRF: under a random key the word is a uniform 32-bit integer, whatever part
of it the engine reads. **The order is right**: a word with more in its top 24 bits is larger, so
that a score increasing in the word increases with the engine's uniform. Words with equal top bits
are one value to the engine and are told apart by eight bits that it never looked at: a fair coin
among ties, which neither adds evidence nor takes any away.

Contexts are generated tokens only; the engine pads the first ones with -1 and marks there as well.
Such padded contexts are the same in every response and are not scored here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.kernels import numpy_prf
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.word_sources import WordSource

__all__ = ["VllmPhilox"]

_SCOPES: Final = ("none", "single_turn", "all")
_MAX_CONTEXT_WIDTH: Final = 16
_CONTEXT_DOMAIN: Final = np.uint64(0x574D4358)
_TOKEN_DOMAIN: Final = np.uint64(0x574D544B)
_MASK32: Final = np.uint64(0xFFFFFFFF)
_32: Final = np.uint64(32)
# Columns of a prepared context for each stream: see `_prepared`.
_COLUMNS: Final = 3
# Below this many words numpy is done before numba has been imported (0.5 s).
_COMPILE_FROM: Final = 500_000


@final
@dataclass(frozen=True)
class VllmPhilox(WordSource):
    """Words of vLLM's Gumbel marks.

    Attributes:
        dual: True for `dual_key_gumbel`: streams 0 and 1 have the keys A and B, which vLLM derives
            from the one key given to it. Scheme dual-gumbel then has vLLM's alpha; scheme gumbel
            reads key A alone, vLLM's alpha = 0. In speculative decoding drafts have key A and
            the target model's own tokens key B, so that alpha is only a weight there.
        deduplicate_contexts: vLLM's setting. With "none" a context that occurs again is marked
            again. "single_turn" and "all" leave it unmarked, within vLLM's
            `deduplicate_contexts_max_history`; "all" also leaves the first h tokens unmarked, and
            contexts that occur in the prompt. What is scored depends only on "none" or not.
    """

    name: ClassVar[str] = "vllm-philox"

    dual: bool = False
    deduplicate_contexts: str = "single_turn"

    def __post_init__(self) -> None:
        if not isinstance(self.dual, bool):
            raise ConfigError(f"{self.name}: dual must be true or false, got {self.dual!r}")
        if self.deduplicate_contexts not in _SCOPES:
            raise ConfigError(
                f"{self.name}: deduplicate_contexts must be one of {', '.join(_SCOPES)}, "
                f"got {self.deduplicate_contexts!r}"
            )

    @property
    def n_key_integers(self) -> int:
        """One: vLLM derives both keys of a dual mark from one."""
        return 1

    @property
    def marks_repeats(self) -> bool:
        """True without de-duplication; see `WordSource.marks_repeats`."""
        return self.deduplicate_contexts == "none"

    def check(self, scheme: Scheme, context_width: int) -> None:
        """Refuse what vLLM does not have; see `WordSource.check`."""
        if not isinstance(scheme, Gumbel | DualGumbel):
            raise ConfigError(
                f"{self.name} goes with the schemes gumbel and dual-gumbel, got {scheme.name}"
            )
        if isinstance(scheme, DualGumbel) and not self.dual:
            raise ConfigError(
                f'{self.name}: the scheme dual-gumbel needs "dual": true (vLLM\'s algorithm '
                "dual_key_gumbel); one key alone goes with gumbel"
            )
        if not 1 <= context_width <= _MAX_CONTEXT_WIDTH:
            raise ConfigError(
                f"{self.name}: vLLM takes context widths from 1 up and warns beyond 16; "
                f"1 to {_MAX_CONTEXT_WIDTH} are read here, got {context_width}"
            )

    def context_hashes(
        self, key: NDArray[np.uint64], contexts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Absorb contexts; see `WordSource.context_hashes`.

        Args:
            key: uint64, shape (1,).
            contexts: int64, shape (n, h), any h >= 1; the low 32 bits count, so that -1 is
                vLLM's padding.

        Returns:
            uint64, shape (n, 3) or, for two keys, (n, 6).
        """
        stream_keys = self._stream_keys(int(key[0]))
        if contexts.size < _COMPILE_FROM:
            prepared = [_prepared(k, contexts) for k in stream_keys]
            return np.column_stack(prepared)
        from watermark.kernels import numba_vllm

        return numba_vllm.context_hashes(stream_keys, contexts)

    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Compute words; see `WordSource.words`. The key is in the hashes already."""
        own = hashes[:, _COLUMNS * stream : _COLUMNS * (stream + 1)]
        assert own.shape[1] == _COLUMNS, "`check` lets no scheme ask for a stream that is not there"
        candidates = token_ids[:, None] if token_ids.ndim == 1 else token_ids
        if candidates.size < _COMPILE_FROM:
            found = numpy_prf.words(own[:, :2], candidates, own[:, 2])
        else:
            from watermark.kernels import numba_prf

            found = numba_prf.words(own[:, :2], candidates, own[:, 2])
        return found.reshape(token_ids.shape)

    def words_for_keys(
        self,
        keys: NDArray[np.uint64],
        contexts: NDArray[np.int64],
        pair_context: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        n_streams: int,
    ) -> NDArray[np.uint32]:
        """Compute the words of the same pairs under many keys, compiled for many."""
        if len(keys) * len(token_ids) * n_streams < _COMPILE_FROM:
            return super().words_for_keys(keys, contexts, pair_context, token_ids, n_streams)
        from watermark.kernels import numba_vllm

        each = [self._stream_keys(key)[:n_streams] for key in keys[:, 0].tolist()]
        return numba_vllm.words_for_keys(np.stack(each), contexts, pair_context, token_ids)

    def _stream_keys(self, key: int) -> NDArray[np.uint64]:
        """The 64-bit key of each stream, uint64, shape (1,) or (2,)."""
        if not self.dual:
            return np.array([key], np.uint64)
        material = [
            hashlib.sha256(domain + key.to_bytes(8, "big")).digest()[:8]
            for domain in (b"key_a", b"key_b")
        ]
        return np.array([int.from_bytes(m, "big") for m in material], np.uint64)


def _prepared(key: np.uint64, contexts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Absorb contexts under one key, and fold the key in.

    Args:
        key: 64 bits.
        contexts: int64, shape (n, h).

    Returns:
        uint64, shape (n, 3): the key of the token's Philox call (low half first), then its counter
        from word 2 on (likewise), then word 1: what `numpy_prf.words` takes as hashes and streams.
    """
    n, h = contexts.shape
    k0, k1 = key & _MASK32, key >> _32
    ids = contexts.astype(np.uint64) & _MASK32
    state = (np.full(n, _CONTEXT_DOMAIN), np.full(n, h, np.uint64), *np.zeros((2, n), np.uint64))
    for offset in range(0, h, 4):
        # A slot beyond the context holds 2^32 - 1 less its place in the block.
        block = [
            ids[:, at] if at < h else np.uint64(0xFFFFFFFF - at + offset)
            for at in range(offset, offset + 4)
        ]
        c0, c1, c2, c3 = (s ^ b for s, b in zip(state, block, strict=True))
        state = numpy_prf.philox(c0, c1, c2, c3, k0 ^ np.uint64(offset), k1)
    s0, s1, s2, s3 = state
    return np.stack([(k0 ^ s3) | ((k1 ^ _TOKEN_DOMAIN) << _32), s1 | (s2 << _32), s0], axis=1)
