"""Marked reading texts: students are found, and innocents that agree with the texts are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from detect.finding import Finding, Plan
from detect.results import Verdict
from detect.suspect import distributions, marked_reading
from detect.suspect.distributions import assess_reading
from detect.suspect.exchanges import Positions, ReadingText
from detect.suspect.marked_reading import assess_marked_reading
from detect.suspect.weighing import Weighed
from tests.detect.synthetic import ToyReader, marked_ids
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig, preset
from watermark.errors import FingerprintError, ResultError
from watermark.interop.sglang import SglangWords
from watermark.interop.transformers_kgw import TransformersKgw
from watermark.keys import EngineKey, SecretKey
from watermark.marking import Marker
from watermark.schemes.green_list import GreenList
from watermark.schemes.gumbel import Gumbel
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")
END = 0

REASONING = ReasoningChannel((5,), (7,))

# A model: ids of prompt and response so far, to logits over the vocabulary.
Model = Callable[[tuple[int, ...]], Tensor]


def _plan(config: WatermarkConfig, key: SecretKey) -> Plan:
    return Plan(config, key, 1e-6, 0.1, 0, 0)


def _key(*numbers: int) -> SecretKey:
    return SecretKey(np.random.default_rng(numbers).bytes(32))


def _draw(
    config: WatermarkConfig,
    key: SecretKey,
    model: Model,
    prompts: Sequence[tuple[int, ...]],
    length: int,
    seed: int,
) -> list[ReadingText]:
    """Let a model answer prompts under a key, by the real marking code."""
    generator, marker = torch.Generator().manual_seed(seed), Marker(config, key)
    response = torch.empty((len(prompts), 0), dtype=torch.int64)
    for _ in range(length):
        rows = [(*p, *r) for p, r in zip(prompts, response.tolist(), strict=True)]
        logits = marker(response, torch.stack([model(row) for row in rows]), generator)
        token = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)
        response = torch.cat([response, token], dim=1)
    ends = [[*r, END].index(END) for r in response.tolist()]
    return [
        ReadingText(p, tuple(r[:end]))
        for p, r, end in zip(prompts, response.tolist(), ends, strict=True)
    ]


class Causal:
    """A reader that reads as a model speaks: by what stands before, and by nothing else."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        for index, text in enumerate(texts):
            ends = range(len(text.token_ids) + 1)
            rows = [self._model((*text.prompt_ids, *text.token_ids[:end])) for end in ends]
            yield Positions(index, torch.stack(rows)[:-1].softmax(dim=1))


# Rounds of seven topics. At each topic the text says yes or no; a model with the habit likes to end
# a round on an even number of noes. Each of seven texts begins its rounds with another topic, so
# that each topic comes last in one of them.
ROUNDS, TOPICS, YES, NO, FIRST = 6, 7, 2, 3, 4
STARTS = FIRST + ROUNDS * TOPICS
PROMPTS = [(STARTS + start,) for start in range(TOPICS)]


def _row(logits: dict[int, float]) -> Tensor:
    row = torch.full((STARTS + TOPICS,), -torch.inf)
    for token, logit in logits.items():
        row[token] = logit
    return row


def _habitual(habit: float) -> Model:
    topics = [_row({FIRST + i: 0.0}) for i in range(ROUNDS * TOPICS)]
    no, either, yes = (_row({YES: logit, NO: 0.0}) for logit in (-habit, 0.0, habit))

    def logits(ids: tuple[int, ...]) -> Tensor:
        start, said = ids[0] - STARTS, ids[1:]
        step, answers = divmod(len(said), 2)
        # After the last round anything would do: nothing is said there any more.
        this_round, place = divmod(min(step, ROUNDS * TOPICS - 1), TOPICS)
        if not answers:
            return topics[this_round * TOPICS + (place + start) % TOPICS]
        if place < TOPICS - 1:
            return either
        return no if said[2 * this_round * TOPICS :].count(NO) % 2 else yes

    return logits


def _assessed(
    config: WatermarkConfig,
    key: SecretKey,
    tokenizer: TextTokenizer,
    models: tuple[Model, Model],
    texts: Sequence[ReadingText],
) -> Finding:
    readers = [Causal(model) for model in models]
    return assess_marked_reading(_plan(config, key), tokenizer, *readers, texts).finding


def test_an_innocent_of_the_teachers_habits_is_accused_by_fixed_weights_alone(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher's twin agrees with the marked texts more than the reference, under 100 keys.

    Its weights at a topic are fixed by the words of the six others, and theirs by that topic's.
    """
    config = replace(preset("gumbel"), context_width=1)
    models = _habitual(1.2), _habitual(0.0)
    monkeypatch.setattr(distributions, "refuse_marked", lambda *arguments: None)
    # By roots, the strongest form of the trap: large weights weigh in.
    monkeypatch.setattr(
        distributions,
        "weigh",
        lambda scheme, pairs: Weighed(scheme, pairs.contexts, pairs.tokens, pairs.weights),
    )
    fixed, mine = [], []
    for number in range(100):
        key = _key(1, number)
        texts = _draw(config, key, models[0], PROMPTS, 2 * ROUNDS * TOPICS, number)
        readers = [Causal(model) for model in models]
        naive = assess_reading(_plan(config, key), tokenizer, *readers, texts)
        fixed.append(naive.finding.tail.log10_p)
        mine.append(_assessed(config, key, tokenizer, models, texts).tail.log10_p)
    # A valid p is at most 0.001 under three of 100 keys or more with probability 1.5e-4.
    assert sum(p <= -3 for p in fixed) >= 3
    assert not any(p <= -3 for p in mine)


def _random_model(seed: int, *, vocabulary: int, end: float) -> Model:
    """A model that looks at one token back, ends with a fixed probability, and says no 1."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn((420, vocabulary), generator=generator)
    logits[:, 1] = -torch.inf
    logits[:, [*REASONING.begin_ids, *REASONING.end_ids]] += 1.5
    logits[:, END] = logits[:, 2:].logsumexp(1) + np.log(end / (1 - end))
    return lambda ids: logits[ids[-1]]


@pytest.mark.parametrize(
    ("name", "reasoning"),
    [("default", None), ("red-green", None), ("tournament", None), ("default", REASONING)],
)
def test_innocents_have_valid_p_values(
    tokenizer: TextTokenizer, name: str, reasoning: ReasoningChannel | None
) -> None:
    """The teacher itself under 80 keys, 35 contexts that texts come by again and again.

    By Ville P(p <= 0.05) <= 0.05: more than 15 of 80 have probability 1e-6. With borders, which
    the readers do not know, contexts are marked again behind each.
    """
    config = replace(preset(name), context_width=1, reasoning=reasoning)
    models = tuple(_random_model(seed, vocabulary=40, end=0.1) for seed in (1, 2))
    found = []
    for number in range(80):
        key = _key(2, number)
        texts = _draw(config, key, models[0], [(41 + i,) for i in range(24)], 8, number)
        found.append(_assessed(config, key, tokenizer, (models[0], models[1]), texts))
    assert sum(f.tail.log10_p <= np.log10(0.05) for f in found) <= 15
    assert np.median([f.n_scored for f in found]) > 10
    assert all(f.tail.log10_p > -5 for f in found)


def _copying(again: float) -> Model:
    """It thinks of one of twenty things, says which, and why: the very step that led it there."""
    begin, end = REASONING.begin_ids[0], REASONING.end_ids[0]

    def logits(ids: tuple[int, ...]) -> Tensor:
        row, step = torch.full((60,), -torch.inf), ids[0] - 40
        said = [i for i in ids[1:] if 40 <= i < 60]
        if ids[-1] == step and len(ids) > 1:
            row[40:60] = 0.0
            if said:
                row[said[0]] = again
        elif len(ids) == 1:
            row[begin] = 0.0
        elif ids[-1] == begin:
            row[step] = 0.0
        elif ids[-1] == end:
            row[said[0] if said else 40] = 0.0
        elif ids.count(step) > 1 or end not in ids:
            row[END if end in ids else end] = 0.0
        else:
            row[step] = 0.0
        return row

    return logits


def test_answers_without_their_marked_reasoning_accuse_an_innocent(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says what a later context's words have chosen; who repeats it looks guilty."""
    config = replace(preset("gumbel"), context_width=1, reasoning=REASONING)
    repeating, forgetful = _copying(4.0), _copying(0.0)
    whole = _draw(config, _key(4), repeating, [(60 + i,) for i in range(20)], 8, 0)
    cut = [ReadingText(t.prompt_ids, t.token_ids[4:]) for t in whole]
    models = repeating, forgetful
    assert _assessed(config, _key(4), tokenizer, models, whole).tail.log10_p > -2
    with pytest.raises(ResultError, match="no text shows any"):
        _assessed(config, _key(4), tokenizer, models, cut)
    monkeypatch.setattr(marked_reading, "_refuse_answers_alone", lambda *arguments: None)
    assert _assessed(config, _key(4), tokenizer, models, cut).tail.log10_p < -4


def _ending(end: float) -> Model:
    """Two tokens at random, and then it ends with a fixed probability or says a third."""
    speaking, later = (torch.zeros(30) for _ in range(2))
    speaking[[END, 1]], later[1] = -torch.inf, -torch.inf
    later[END] = np.log(28 * end / (1 - end))
    return lambda ids: speaking if len(ids) < 3 else later


def test_an_innocent_that_ends_later_is_accused_where_the_end_is_not_read(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a token follows, the end was not chosen: the words of all other tokens are higher."""
    config, key = preset("gumbel"), _key(3)
    teacher, late = _ending(0.5), _ending(0.05)
    texts = _draw(config, key, teacher, [(31,)] * 700, 3, 0)
    assert _assessed(config, key, tokenizer, (late, teacher), texts).tail.log10_p > -2
    monkeypatch.setattr(marked_reading, "_with_the_end", lambda text: text)
    assert _assessed(config, key, tokenizer, (late, teacher), texts).tail.log10_p < -4


def _texts(n: int) -> list[ReadingText]:
    rows = [marked_ids(CONFIG, KEY, 40 + i, vocabulary=60, seed=50 + i) for i in range(n)]
    return [ReadingText((60 + i, 3, 4), tuple(r.tolist())) for i, r in enumerate(rows)]


TEXTS = _texts(12)
STUDENT, BASE = ToyReader(CONFIG, seed=1, key=KEY, tilt=0.25), ToyReader(CONFIG, seed=1)


def test_a_tilted_student_is_found(tokenizer: TextTokenizer) -> None:
    plan = _plan(CONFIG, KEY)
    tested = assess_marked_reading(plan, tokenizer, STUDENT, BASE, TEXTS)
    assert tested.finding.verdict == Verdict.SIGNAL
    assert tested.finding.tail.method == "e-process"
    assert tested.finding.curve is not None
    assert tested.finding.curve.log10_p[-1] == pytest.approx(tested.finding.tail.log10_p, abs=1e-3)
    assert tested.n_tokens == sum(len(text.token_ids) for text in TEXTS)
    other = assess_marked_reading(_plan(CONFIG, _key(9)), tokenizer, STUDENT, BASE, TEXTS)
    assert other.finding.tail.log10_p > -3


def test_neither_the_readers_order_nor_that_of_the_file_matters(tokenizer: TextTokenizer) -> None:
    """Both may follow lengths or scores, which depend on the key; prompts do not."""

    class ShortestLast:
        def __init__(self, reader: ToyReader) -> None:
            self._reader = reader

        def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
            yield from sorted(self._reader.read(texts), key=lambda p: -len(p.probabilities))

    plan = _plan(CONFIG, KEY)
    expected = assess_marked_reading(plan, tokenizer, STUDENT, BASE, TEXTS[:4])
    readers = ShortestLast(STUDENT), ShortestLast(BASE)
    assert assess_marked_reading(plan, tokenizer, *readers, TEXTS[:4]) == expected
    assert assess_marked_reading(plan, tokenizer, STUDENT, BASE, TEXTS[3::-1]) == expected


def test_each_context_counts_once_and_none_that_any_prompt_shows(tokenizer: TextTokenizer) -> None:
    plan, text = _plan(CONFIG, KEY), TEXTS[0]
    once = assess_marked_reading(plan, tokenizer, STUDENT, BASE, [text])
    again = ReadingText((*text.prompt_ids, 5), text.token_ids)
    twice = assess_marked_reading(plan, tokenizer, STUDENT, BASE, [text, again])
    assert twice.finding == once.finding
    assert twice.reasons["context_in_earlier_text"] == once.finding.n_scored
    # The last run of a prompt is a context too: what the response's first tokens are drawn by.
    shown = ReadingText((*text.prompt_ids, *text.token_ids), ())
    none = assess_marked_reading(plan, tokenizer, STUDENT, BASE, [text, shown])
    assert none.finding.n_scored == 0
    assert none.finding.verdict == Verdict.INCONCLUSIVE
    assert none.reasons["context_in_another_prompt"] == once.finding.n_scored


class Copying:
    """Goes on after two tokens as the text did before; another model says anything."""

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def __call__(self, ids: tuple[int, ...]) -> Tensor:
        row = torch.full((SPOKEN,), (1 - self._weight) / SPOKEN)
        before = [ids[i + 2] for i in range(len(ids) - 2) if ids[i : i + 2] == ids[-2:]]
        if before:
            row[before[-1]] += self._weight
        return row.log()


SPOKEN, COLON = 120, 3


def test_a_context_that_spans_prompt_and_response_is_revealed_there(
    tokenizer: TextTokenizer,
) -> None:
    """Engines hash the prompt's end too: what such a row chose first is copied by an innocent.

    Each response says two tokens, the second drawn after (colon, first); later it says colon and
    its first token again.
    """
    config, key = WatermarkConfig(Gumbel(), 2, source=SglangWords()), EngineKey([77])
    words, tokens = config.source.under(key), np.arange(SPOKEN)[None]
    texts = []
    for first in range(20, 100):
        hashes = words.context_hashes(np.array([[COLON, first]]))
        second = int(words.words(hashes, tokens)[0].argmax())
        said = (first, second, 7, COLON, first, 9)
        texts.append(ReadingText((SPOKEN + first, COLON), said))
    readers = Causal(Copying(0.9)), Causal(Copying(0.0))
    plan = Plan(config, key, 1e-6, 0.1, 0, 0)
    tested = assess_marked_reading(plan, tokenizer, *readers, texts)
    assert tested.finding.tail.log10_p > -2
    assert tested.reasons["context_in_another_prompt"] >= len(texts)


def test_where_nothing_can_be_bet_on_it_is_inconclusive(tokenizer: TextTokenizer) -> None:
    plan = _plan(CONFIG, KEY)
    for suspect, texts in ((BASE, TEXTS[:2]), (STUDENT, [])):
        finding = assess_marked_reading(plan, tokenizer, suspect, BASE, texts).finding
        assert finding.verdict == Verdict.INCONCLUSIVE
        assert finding.tail.p_value == 1.0
        assert "equals its reference" in finding.warnings[0]


def test_what_it_cannot_test_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ResultError, match="h = 0"):
        assess_marked_reading(_plan(preset("unigram"), KEY), tokenizer, STUDENT, BASE, TEXTS)
    source = TransformersKgw(vocab_size=60)
    lists = WatermarkConfig(GreenList(source.n_green, 60), 1, source=source)
    with pytest.raises(ResultError, match="without replacement"):
        assess_marked_reading(_plan(lists, KEY), tokenizer, STUDENT, BASE, TEXTS)
    bound = _plan(CONFIG.bound_to("sha256:other"), KEY)
    with pytest.raises(FingerprintError):
        assess_marked_reading(bound, tokenizer, STUDENT, BASE, TEXTS)
