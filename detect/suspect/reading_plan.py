"""What models with open weights are given to read in a probe, and beside whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from detect.suspect.exchanges import ReadingText
from detect.suspect.logs import read_logs
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.opening import open_weights
from detect.suspect.used import is_same
from watermark.errors import DocumentError, FingerprintError
from watermark.storage.files import read_records
from watermark.tokens import TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from detect.suspect.probing import ProbeRequest

__all__ = ["ReadingPlan"]


@final
@dataclass(frozen=True)
class ReadingPlan:
    """What models with open weights are given to read, and beside whom.

    Attributes:
        request: the probe.
        tokenizer: the provider's.
        texts: prompts and unmarked texts.
        marked: prompts and marked responses, by the ids that were drawn.
        reference: a clean model that reads the same, or None.
    """

    request: ProbeRequest
    tokenizer: TextTokenizer
    texts: list[tuple[str, str]]
    marked: list[tuple[str, tuple[int, ...]]]
    reference: TransformersSuspect | None

    @classmethod
    def opened(cls, request: ProbeRequest, reading_path: str | None) -> ReadingPlan:
        """Read the texts, and open the reference."""
        tokenizer, texts, marked = load_tokenizer(request.tokenizer), [], []
        if request.marked_reading is None:
            rows = read_records(reading_path or "-", ("prompt", "text"))
            texts = [(prompt, text) for prompt, text in rows]
        else:
            marked = _marked_rows(request.marked_reading)
        reference = None if request.reference is None else open_weights(request.reference)
        return cls(request, tokenizer, texts, marked, reference)

    @property
    def n_texts(self) -> int:
        """How many texts there are."""
        return len(self.texts) + len(self.marked)

    def n_tokens(self, model: TransformersSuspect) -> int:
        """Tokens of all texts, in a model's own."""
        read = model.tokenizer.encode_many([text for _, text in self.texts])
        return sum(map(len, read)) + sum(len(ids) for _, ids in self.marked)

    def clean_for(
        self, name: str, model: TransformersSuspect
    ) -> tuple[TransformersSuspect | None, str]:
        """Find what is read beside a model, and say so where that is not the reference."""
        if self.reference is None:
            return None, ""
        if is_same(name, self.request.reference or ""):
            return None, "read without a reference: it is the reference"
        if _share_tokenizer(model, self.reference):
            return self.reference, ""
        if name == self.request.suspect:
            raise FingerprintError(
                f"the reference {self.reference.name} has another tokenizer than {model.name}; "
                "give a clean model with the suspect's tokenizer, or none"
            )
        return None, "read without a reference: the reference has another tokenizer"

    def texts_for(self, model: TransformersSuspect) -> list[ReadingText]:
        """Make the unmarked texts ready for a model that shares the provider's tokenizer."""
        return [
            ReadingText(model.chat_ids(prompt), tuple(self.tokenizer.encode(text).tolist()))
            for prompt, text in self.texts
        ]


def _marked_rows(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Read prompts and marked responses by the ids that were drawn."""
    logged = read_logs(path)
    for number, answer in enumerate(logged, 1):
        if answer.token_ids is None:
            raise DocumentError(
                f'{path}: answer {number} has no "token_ids"; marked texts are read by the ids '
                "that were drawn, which heirmark generate writes"
            )
    return [(answer.prompt, answer.token_ids or ()) for answer in logged]


def _share_tokenizer(one: TransformersSuspect, other: TransformersSuspect) -> bool:
    return one.shares_tokenizer(other.tokenizer) or other.shares_tokenizer(one.tokenizer)
