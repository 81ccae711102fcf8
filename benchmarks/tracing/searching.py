"""What the parts share: texts, accounts, and a search of documents in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.marked_texts import MarkedText
from detect.scanning.results import LeftOut
from detect.tracing.texts.families import Account, KeyFamily
from detect.tracing.texts.plans import TracePlan
from detect.tracing.texts.reading import TokenizedDocument
from detect.tracing.texts.results import TraceResult
from detect.tracing.texts.trace import trace_text
from watermark.config import preset
from watermark.keys import SecretKey
from watermark.prf import NATIVE
from watermark.tokens import TextTokenizer, load_tokenizer

ALPHA = 1e-6


DATA = Path(__file__).parents[3] / "shared" / "data"


# Texts for innocent accounts and for speeds: drawn for another benchmark as well.
ELSEWHERE: dict[str, Any] = {"temperature": 0.7, "n_texts": 100, "n_tokens": 400}


N_TEXTS, N_TOKENS = 100, 300


Ids = NDArray[np.int64]


class Held:
    """Documents that are in memory."""

    def __init__(self, documents: Sequence[Ids]) -> None:
        """Hold documents."""
        self.left_out, self.files_not_read, self.size = LeftOut({}, ()), (), 0
        self._documents = documents

    def batches(self, tokenizer: Any) -> Iterator[tuple[list[TokenizedDocument], int]]:
        """Give them."""
        yield [TokenizedDocument(str(i), str(i), ids) for i, ids in enumerate(self._documents)], 0


@cache
def own_tokenizer() -> TextTokenizer:
    return load_tokenizer("smollm2")


def account_integers(n: int, seed: int) -> NDArray[np.uint64]:
    master = SecretKey(np.random.default_rng([seed, 7]).bytes(32))
    return np.stack([NATIVE.key_of(master.derive(account=f"account {i}")) for i in range(n)])


def served_to(integers: NDArray[np.uint64], texts: dict[int, MarkedText]) -> KeyFamily:
    """Let some accounts have the keys of some texts."""
    own = integers.copy()
    for number, text in texts.items():
        own[number] = NATIVE.key_of(text.key)
    return KeyFamily(account_names(len(own)), own)


@cache
def account_names(n: int) -> list[Account]:
    return [Account(str(i), str(i)) for i in range(n)]


def traced(
    family: KeyFamily,
    documents: Sequence[Ids],
    name: str = "default",
    piece: int | None = None,
    *,
    with_passages: bool = True,
) -> TraceResult:
    plan = TracePlan(preset(name), family, ALPHA, piece_tokens=piece, with_passages=with_passages)
    return trace_text(Held(documents), plan=plan, tokenizer=own_tokenizer())
