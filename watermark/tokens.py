"""The provider's tokenizer, without torch: text to ids, ids to pieces, and a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from watermark.errors import ConfigError, DocumentError, FingerprintError
from watermark.storage.canonical import canonical_json

__all__ = ["TextTokenizer", "check_fingerprint", "load_tokenizer", "tokenizer_file"]

# What decides the ids. Decoder, post-processor, truncation and padding do not, and differ
# between the versions of transformers that saved the file.
_FINGERPRINTED = ("model", "added_tokens", "normalizer", "pre_tokenizer")


@final
class TextTokenizer:
    """A tokenizer.json. Texts are encoded without adding special tokens."""

    __slots__ = ("_tokenizer", "fingerprint", "special_ids", "vocab_size")

    def __init__(self, content: str) -> None:
        self._tokenizer = Tokenizer.from_str(content)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.fingerprint = _fingerprint(json.loads(content))
        self.vocab_size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)

    def has_tokens_of(self, other: TextTokenizer) -> bool:
        """True if every token of another tokenizer has the same id here."""
        mine, theirs = (t._tokenizer.get_vocab(with_added_tokens=True) for t in (self, other))
        return bool(theirs.items() <= mine.items())

    def encode(self, text: str) -> NDArray[np.int64]:
        """Encode a text.

        Args:
            text: any text; a marker such as <|im_end|> in it becomes the special token.

        Returns:
            int64, shape (T,).

        Raises:
            DocumentError: text that is not valid Unicode (a lone surrogate).
        """
        return np.array(self._encoding(text).ids, np.int64)

    def encode_many(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Encode texts on all cores; see `encode`."""
        for text in texts:
            _check_unicode(text)
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(e.ids, np.int64) for e in encodings]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode ids; special tokens are left out."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text

    def pieces(self, text: str) -> list[str]:
        """Cut a text at its tokens.

        Args:
            text: any text.

        Returns:
            One piece a token; joined they give the text. Where several tokens share a character,
            the last has it and the others are empty.
        """
        starts = list(accumulate((start for start, _ in self._encoding(text).offsets), max))
        if not starts:
            return []
        # Text that no token covers (normalised away) goes to the piece before it.
        starts[0] = 0
        ends = [*starts[1:], len(text)]
        return [text[a:b] for a, b in zip(starts, ends, strict=True)]

    def _encoding(self, text: str) -> Any:
        _check_unicode(text)
        return self._tokenizer.encode(text, add_special_tokens=False)


def tokenizer_file(source: str | Path) -> Path:
    """Find the file of a tokenizer.

    Args:
        source: see `load_tokenizer`.

    Returns:
        The tokenizer.json; whether it is there is not looked at.

    Raises:
        ModelError: no such model.
    """
    path = Path(source)
    if not path.exists() or path.suffix.lower() == ".gguf":
        from watermark.models import resolve_model

        path = resolve_model(str(source))
    if path.is_dir():
        path = path / "tokenizer.json"
    return path


def load_tokenizer(source: str | Path) -> TextTokenizer:
    """Load a tokenizer.

    Args:
        source: a tokenizer.json, a folder that holds one, a *.gguf file, "smollm2", or a Hub id.

    Returns:
        The tokenizer.

    Raises:
        ConfigError: missing or damaged.
    """
    path = tokenizer_file(source)
    try:
        return TextTokenizer(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; give a tokenizer.json or its folder"
        ) from None
    except Exception as error:
        # The Rust library raises a plain Exception for a damaged file.
        raise ConfigError(f"{path} is not an intact tokenizer.json: {error}") from None


def check_fingerprint(tokenizer: TextTokenizer, expected: str | None) -> None:
    """Refuse a tokenizer that a config is not bound to.

    Args:
        tokenizer: the one at hand.
        expected: the config's fingerprint; None binds to nothing.

    Raises:
        FingerprintError: they differ.
    """
    if expected is not None and tokenizer.fingerprint != expected:
        raise FingerprintError(
            f"the config was made for the tokenizer {_short(expected)}, this one is "
            f"{_short(tokenizer.fingerprint)}; with it the mark cannot be seen. "
            "Give the provider's tokenizer (--tokenizer)"
        )


def _short(fingerprint: str) -> str:
    return fingerprint[:19] + "..."


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DocumentError(
            f"the text is not valid Unicode: a lone surrogate at character {error.start}"
        ) from None


def _fingerprint(content: dict[str, Any]) -> str:
    deciding: dict[str, Any] = {name: content.get(name) for name in _FINGERPRINTED}
    model = deciding["model"] or {}
    if any(isinstance(merge, str) for merge in model.get("merges", [])):
        # Older files write the pair ["a", "b"] as "a b".
        pairs = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
        deciding["model"] = {**model, "merges": pairs}
    canonical = canonical_json(deciding)
    return "sha256:" + hashlib.sha256(canonical.encode("ascii")).hexdigest()
