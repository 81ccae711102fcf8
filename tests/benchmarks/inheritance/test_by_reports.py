"""What an endpoint would report: the likeliest tokens of each position, where they stand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
import torch

from benchmarks.inheritance import by_reports
from benchmarks.inheritance.lessons import Lesson
from detect.suspect.exchanges import Positions, ReadingText, SuspectAnswer
from watermark.config import preset
from watermark.tokens import TextTokenizer

TEXTS = ("The boy read the book again.", "", "The sea: grow\u00fcn \u00e9t\u00e9 loud.")
LESSON = Lesson(preset("default"), 3, 1)


class Random:
    """A reader whose distributions are random, longest texts first."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        self._vocabulary, self._seed = vocabulary, seed

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        for index in sorted(range(len(texts)), key=lambda i: -len(texts[i].token_ids)):
            generator = torch.Generator().manual_seed(self._seed + len(texts[index].token_ids))
            shape = (len(texts[index].token_ids), self._vocabulary)
            yield Positions(index, torch.randn(shape, generator=generator).softmax(dim=1))


@pytest.fixture(scope="module")
def told(tokenizer: TextTokenizer) -> tuple[list[SuspectAnswer], list[ReadingText]]:
    answers = [SuspectAnswer("Go:", text) for text in TEXTS]
    reading = [ReadingText((2,), tuple(tokenizer.encode(text).tolist())) for text in TEXTS]
    reader = Random(tokenizer.vocab_size, 1)
    return by_reports.reported_answers(tokenizer, reader, answers, reading), reading


def test_each_position_names_its_likeliest_tokens(
    tokenizer: TextTokenizer, told: tuple[list[SuspectAnswer], list[ReadingText]]
) -> None:
    answers, reading = told
    assert [answer.text for answer in answers] == list(TEXTS)
    assert answers[1].reported == ()
    read = {p.index: p.probabilities for p in Random(tokenizer.vocab_size, 1).read(reading)}
    for index in (0, 2):
        assert len(answers[index].reported) == len(reading[index].token_ids)
        for position, row in zip(answers[index].reported, read[index], strict=True):
            best = row.topk(by_reports.N_CANDIDATES)
            shown = dict(zip(position.tokens, position.log_probs, strict=True))
            assert 0 < len(shown) <= by_reports.N_CANDIDATES
            for token, p in zip(best.indices.tolist(), best.values.tolist(), strict=True):
                name = tokenizer.decode([*tokenizer.encode("a"), token])[1:]
                if token not in tokenizer.special_ids and name and "\ufffd" not in name:
                    assert math.isclose(shown.pop(name.encode()), math.log(p), rel_tol=1e-6)
            # What is left over are no tokens: special ones and parts of characters have no name.
            assert not shown


def test_a_position_stands_where_its_token_begins(
    tokenizer: TextTokenizer, told: tuple[list[SuspectAnswer], list[ReadingText]]
) -> None:
    answers, _ = told
    for answer in (answers[0], answers[2]):
        starts = [position.start for position in answer.reported]
        pieces = tokenizer.pieces(answer.text)
        ends = [*starts[1:], len(answer.text.encode())]
        content = answer.text.encode()
        cut = [content[a:b] for a, b in zip(starts, ends, strict=True)]
        assert cut == [piece.encode() for piece in pieces]


def test_only_reported_candidates_become_pairs(
    tokenizer: TextTokenizer, told: tuple[list[SuspectAnswer], list[ReadingText]]
) -> None:
    answers, reading = told
    base = Random(tokenizer.vocab_size, 9)
    pairs = by_reports.pairs_of(LESSON, tokenizer, answers, base, reading)
    assert list(pairs) == ["ours, no reference", "ours, public base"]
    named = {name for answer in answers for p in answer.reported for name in p.tokens}
    for found in pairs.values():
        assert 0 < len(found.tokens) <= by_reports.N_CANDIDATES * found.n_positions
        assert all(
            tokenizer.decode([*tokenizer.encode("a"), token])[1:].encode() in named
            for token in found.tokens.tolist()
        )
    assert pairs["ours, public base"].has_reference
    assert list(by_reports.pairs_of(LESSON, tokenizer, answers, None, reading)) == [
        "ours, no reference"
    ]
    tested = by_reports.test_reports(LESSON, pairs, 20)
    assert tested["n_tokens"] == 20
    assert tested["ours, public base"]["log10_p"] <= 0
