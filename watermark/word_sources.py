"""Where words come from: (key, context, token) in, a 32-bit word out.

The native source is `watermark.prf`. Other systems' marks are other sources
(`watermark.interop`, one file each). A source is a frozen value of public parameters; under a key
it gives `KeyedWords`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import FingerprintError
from watermark.keys import EngineKey, Key
from watermark.schemes import Scheme

__all__ = ["IntegerWords", "KeyedWords", "Layers", "Null", "Pairs", "WordSource"]

Null: TypeAlias = Literal["independent", "layers", "decoys"]


class Pairs(NamedTuple):
    """(context, token) pairs: contexts int64, shape (n, h), and tokens int64, shape (n,)."""

    contexts: NDArray[np.int64]
    tokens: NDArray[np.int64]


class Layers(NamedTuple):
    """What the layers of a tournament can sum to on given pairs, one after another.

    For a hash whose layers are one function of the pair and of a key of the layer's own. Given the
    pairs, under layer keys that were drawn independently and uniformly, which of the totals belong
    to the layers is a uniform choice without replacement.

    Attributes:
        totals: int64, shape (N,), ones among the pairs under N layer keys: under all there are, or
            under the layers' own and others drawn like them.
        same: int64, shape (m,): layers with the same number have the same key, and total.
    """

    totals: NDArray[np.int64]
    same: NDArray[np.int64]


class KeyedWords(Protocol):
    """A source under one key."""

    def context_hashes(self, contexts: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Prepare contexts, int64 of shape (n, h), once for all tokens that follow them.

        Returns:
            uint64, shape (n, s).
        """

    def words(
        self,
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int | NDArray[np.uint64] = 0,
    ) -> NDArray[np.uint32]:
        """Compute the words of tokens, int64 of shape (n,) or (n, K), after prepared contexts.

        Returns:
            uint32, the shape of `token_ids`.
        """


class WordSource(ABC):
    """A way to make words. Concrete sources are frozen dataclasses of public parameters.

    Under a key that is independent of the text, words of pairs that are distinct after
    `canonical` must be independent and uniform, as far as the system's own hash is random.

    Attributes:
        name: how configs call it.
        key_bits: bits of each integer of a key.
    """

    name: ClassVar[str]
    key_bits: ClassVar[int] = 64

    @property
    def marks_repeats(self) -> bool:
        """True if a context that has occurred in the same response is marked again.

        Then every distinct pair of a marked text is scored, not only the first of each context.
        """
        return False

    @property
    def draws_without_replacement(self) -> bool:
        """True if green tokens of one context are a list of an exact size.

        Sums over a text are bounded by those of independent words (`GreenList.law`); bets that
        follow one another are not: the fewer green tokens came, the likelier is the next.
        """
        return False

    @property
    def tells_pairs_apart(self) -> bool:
        """False for a hash so weak that distinct pairs have the same words under every key."""
        return True

    @property
    def unkeyed_ids(self) -> frozenset[int]:
        """Ids in whose context every key gives the same words: nothing is scored there."""
        return frozenset()

    @property
    def word_cost(self) -> float:
        """What a word costs under many keys, in words of our own PRF (some 50 ns each)."""
        return 1.0

    @property
    def null(self) -> Null:
        """What is known of sums over distinct pairs under a random key.

        "independent": the words are, so that the law of one score gives that of a sum. "layers":
        they are not, and `layers` gives the null. "decoys": they are not, and only decoy keys,
        which go through the same hash, have an exact p-value.
        """
        return "independent"

    @property
    def distinct_key_bits(self) -> int:
        """Log2 of the keys whose words are unlike: another key drawn at random has them by 2^-bits.

        At most what the integers of a key have. Below it where a hash merges keys, all words or so
        many that text marked under one fits the other.
        """
        return self.key_bits * self.n_key_integers

    @property
    @abstractmethod
    def n_key_integers(self) -> int:
        """How many integers a key of the system has."""

    @abstractmethod
    def context_hashes(
        self, key: NDArray[np.uint64], contexts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Prepare contexts under a key.

        Args:
            key: uint64, shape (n_key_integers,).
            contexts: int64, shape (n, h), oldest first; what `canonical` returns as well.

        Returns:
            uint64, shape (n, s).
        """

    @abstractmethod
    def words(
        self,
        key: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int,
    ) -> NDArray[np.uint32]:
        """Compute words after prepared contexts.

        Args:
            key: uint64, shape (n_key_integers,).
            hashes: from `context_hashes`.
            token_ids: int64, shape (n,) one token per context, or (n, K) candidates.
            stream: which word stream.

        Returns:
            uint32, the shape of `token_ids`.
        """

    @abstractmethod
    def check(self, scheme: Scheme, context_width: int) -> None:
        """Refuse a deployment that the system does not have.

        Args:
            scheme: the deployment's scheme.
            context_width: h.

        Raises:
            ConfigError: says what the system has.
        """

    def canonical(self, pairs: Pairs) -> Pairs:
        """Replace pairs by others of the same shapes and words, equal where words must be equal.

        A weak hash cannot tell some pairs apart, whatever the key: counted twice they would be one
        piece of evidence counted twice. The default is a hash that tells all pairs apart
        (`tells_pairs_apart`).
        """
        return pairs

    def evidence(self, pairs: Pairs) -> NDArray[np.int64]:
        """Name what each pair is evidence of: of pairs with equal rows one is counted.

        Equal rows are needed where a hash shares words among distinct pairs, which ones depending
        on the key: counted as independent they would understate the tail.

        Args:
            pairs: from `canonical`.

        Returns:
            int64, shape (n, w).
        """
        return np.column_stack(pairs)

    def layers(self, key: NDArray[np.uint64], pairs: Pairs, seed: int) -> Layers:
        """Compute the null of a tournament's layers on given pairs, whatever these are.

        Args:
            key: uint64, shape (n_key_integers,).
            pairs: the scored pairs, n >= 1; one that stands there twice counts twice.
            seed: of the layer keys that are drawn, where not all are tried.

        Returns:
            The null.

        Raises:
            NotImplementedError: a source whose `null` is another.
        """
        raise NotImplementedError(f"{self.name} has no layers; its null is {self.null!r}")

    def key_of(self, key: Key) -> NDArray[np.uint64]:
        """Take the integers of a key.

        Args:
            key: a key of the system, or a secret from which one is derived for this source.

        Returns:
            uint64, shape (n_key_integers,). As secret as the key.

        Raises:
            FingerprintError: the key has another number of integers, or larger ones.
        """
        n, size = self.n_key_integers, -(-self.key_bits // 8)
        if not isinstance(key, EngineKey):
            drawn = key.subkey("engine " + self.name, n * size)
            parts = [drawn[i * size : (i + 1) * size] for i in range(n)]
            top = (1 << self.key_bits) - 1
            return np.array([int.from_bytes(part, "little") & top for part in parts], np.uint64)
        if len(key.integers) != n:
            raise FingerprintError(
                f"{self.name} takes a key of {n} integers, key {key.key_id} has "
                f"{len(key.integers)}; give the key that belongs to the config"
            )
        if max(key.integers) >= 1 << self.key_bits:
            raise FingerprintError(
                f"{self.name} takes integers below 2^{self.key_bits}; key {key.key_id} has a "
                "larger one"
            )
        return np.array(key.integers, np.uint64)

    def under(self, key: Key) -> KeyedWords:
        """Return the words of this source under a key; see `key_of`."""
        return IntegerWords(self, self.key_of(key))

    def fresh_keys(self, n: int, seed: int) -> NDArray[np.uint64]:
        """Draw keys that were never used.

        Args:
            n: how many.
            seed: of numpy's PCG64.

        Returns:
            uint64, shape (n, n_key_integers).
        """
        shape = (n, self.n_key_integers)
        top = (1 << self.key_bits) - 1
        return np.random.default_rng(seed).integers(0, top, shape, np.uint64, True)

    def scan_words(self, key: NDArray[np.uint64], pairs: Pairs, stream: int) -> NDArray[np.uint32]:
        """Compute the words of very many pairs under one key.

        A source that keeps something of a key between calls overrides this; its words may then be
        others of the same score.

        Args:
            key: uint64, shape (n_key_integers,).
            pairs: the pairs.
            stream: which of the words of a pair.

        Returns:
            uint32, shape (n,).
        """
        hashes = self.context_hashes(key, np.ascontiguousarray(pairs.contexts))
        return self.words(key, hashes, pairs.tokens, stream)

    def words_for_keys(
        self,
        keys: NDArray[np.uint64],
        contexts: NDArray[np.int64],
        pair_context: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        n_streams: int,
    ) -> NDArray[np.uint32]:
        """Compute the words of the same pairs under many keys.

        Args:
            keys: uint64, shape (M, n_key_integers).
            contexts: int64, shape (C, h), the distinct contexts.
            pair_context: int64, shape (n,), row of `contexts` that each pair has.
            token_ids: int64, shape (n,).
            n_streams: streams 0 .. n_streams - 1 are computed.

        Returns:
            uint32, shape (M, n_streams, n).
        """
        found = np.empty((len(keys), n_streams, len(token_ids)), np.uint32)
        for row, key in zip(found, keys, strict=True):
            hashes = self.context_hashes(key, contexts)[pair_context]
            for stream in range(n_streams):
                row[stream] = self.words(key, hashes, token_ids, stream)
        return found

    def parameters(self) -> dict[str, Any]:
        """The source's parameters as plain JSON values."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


@final
class IntegerWords:
    """A foreign source under one key. Shows no key material."""

    __slots__ = ("_key", "_source")

    def __init__(self, source: WordSource, key: NDArray[np.uint64]) -> None:
        self._source, self._key = source, key

    def context_hashes(self, contexts: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Prepare contexts; see `KeyedWords.context_hashes`."""
        return self._source.context_hashes(self._key, contexts)

    def words(
        self,
        hashes: NDArray[np.uint64],
        token_ids: NDArray[np.int64],
        stream: int | NDArray[np.uint64] = 0,
    ) -> NDArray[np.uint32]:
        """Compute words; see `KeyedWords.words`."""
        if isinstance(stream, int):
            return self._source.words(self._key, hashes, token_ids, stream)
        found = np.empty(token_ids.shape, np.uint32)
        for one in np.unique(stream):
            rows = stream == one
            found[rows] = self._source.words(self._key, hashes[rows], token_ids[rows], int(one))
        return found

    def __repr__(self) -> str:
        return f"IntegerWords({self._source.name}, key hidden)"
