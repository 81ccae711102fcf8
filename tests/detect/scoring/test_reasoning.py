"""Text with reasoning in it: read piece by piece, every pair once, the answer alone as ever."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detect.corpus import scan_corpus
from detect.documents import Document
from detect.scoring.scores import Reason, Selection, score_pairs, select_pairs
from detect.tails.nulls import log_tails
from detect.text import assess_text, assess_tokens
from tests.detect.synthetic import marked_ids
from tests.watermark.test_channels import CHANNELS, naive
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig, preset
from watermark.errors import ConfigError
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.prf import Prf
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
BEGIN, END = (400, 401), (402,)
CHANNEL = ReasoningChannel(BEGIN, END)
VOCABULARY = 410


def _selected(config: WatermarkConfig, ids: NDArray[np.int64]) -> Selection:
    return select_pairs(
        ids, config.context_width, drop_repeated_contexts=True, reasoning=config.reasoning
    )


def _scores(config: WatermarkConfig, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    return score_pairs(_selected(config, ids), config, Prf.from_key(KEY))


def _with_reasoning(
    config: WatermarkConfig, seed: int, *, n: int = 120, n_reasoning: int = 120, n_kinds: int = 60
) -> NDArray[np.int64]:
    """Generate begin, n_reasoning tokens, end, n tokens, with borders at fixed places.

    Logits depend on the last two tokens alone; of few kinds of tokens contexts come back.
    """
    generator, marker = torch.Generator().manual_seed(seed), Marker(config, KEY)
    ids: list[int] = []
    for planned in (*BEGIN, *[-1] * n_reasoning, *END, *[-1] * n):
        logits = torch.full((1, VOCABULARY), -torch.inf)
        logits[0, :n_kinds] = torch.from_numpy(_logits(seed, ids[-2:], n_kinds))
        marked = marker(torch.tensor([ids], dtype=torch.int64), logits, generator)
        drawn = int(torch.multinomial(marked.softmax(dim=1), 1, generator=generator))
        ids.append(drawn if planned < 0 else planned)
    return np.array(ids)


def _logits(seed: int, last: list[int], n_kinds: int = 60) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *last]).normal(size=n_kinds).astype(np.float32)


def _answer(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return ids[int(np.flatnonzero(ids == END[0])[0]) + 1 :]


@pytest.mark.parametrize("channel", CHANNELS)
@given(
    ids=st.lists(st.integers(0, 5), max_size=30),
    h=st.integers(0, 3),
    direct=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_selection_is_what_the_rules_say(
    channel: ReasoningChannel, ids: list[int], h: int, direct: bool
) -> None:
    """A naive twin, token by token; id 5 is special."""
    selection = select_pairs(
        np.array(ids, np.int64),
        h,
        special_ids=[5],
        drop_repeated_contexts=direct,
        reasoning=channel,
    )
    channel = channel.as_read(np.array(ids, np.int64))
    on_border = channel.place(np.array(ids, np.int64)).on_border
    met: set[tuple[int, tuple[int, ...]]] = set()
    pairs: list[tuple[tuple[int, ...], int]] = []
    for t, token in enumerate(ids):
        start, in_reasoning = naive(channel, ids[:t])
        context = tuple(ids[t - h : t]) if t - h >= start else None
        if on_border[t]:
            expected = Reason.BORDER
        elif in_reasoning and not channel.is_marked:
            expected = Reason.UNMARKED_CHANNEL
        elif context is None:
            expected = Reason.NO_CONTEXT
        elif token == 5:
            expected = Reason.SPECIAL_TOKEN
        elif 5 in context:
            expected = Reason.SPECIAL_CONTEXT
        elif direct and h and (start, context) in met:
            expected = Reason.REPEATED_CONTEXT
        elif (context, token) in pairs:
            expected = Reason.REPEATED_PAIR
        else:
            expected = Reason.SCORED
            pairs.append((context, token))
        if context is not None:
            met.add((start, context))
        assert selection.reasons[t] == expected, t
    scored = zip(selection.contexts.tolist(), selection.tokens.tolist(), strict=True)
    assert [(tuple(context), token) for context, token in scored] == pairs
    assert sum(selection.reason_counts().values()) == len(ids) - len(pairs)


def test_an_answer_alone_is_read_where_the_prompt_has_begun_the_reasoning() -> None:
    """Broken, nothing of an answer would be scored: it does not show where reasoning ended."""
    channel = ReasoningChannel(BEGIN, END, is_marked=False, starts_open=True)
    config = replace(preset("default"), reasoning=channel)
    answer = np.arange(100, 140)
    whole = np.concatenate([np.arange(40), END, answer])
    alone, inside = _selected(config, answer), _selected(config, whole)
    assert alone.n_scored == inside.n_scored == len(answer) - config.context_width
    assert np.array_equal(alone.contexts, inside.contexts)
    assert (inside.reasons[:40] == Reason.UNMARKED_CHANNEL).all()
    reopened = np.concatenate([answer, BEGIN, np.arange(40), END])
    assert _selected(config, reopened).n_scored == alone.n_scored


@given(ids=st.lists(st.integers(0, 3), max_size=25), h=st.integers(0, 3), direct=st.booleans())
@settings(max_examples=100, deadline=None)
def test_text_without_borders_reads_as_before(ids: list[int], h: int, direct: bool) -> None:
    token_ids = np.array(ids, np.int64)
    plain = select_pairs(token_ids, h, drop_repeated_contexts=direct)
    borders = select_pairs(token_ids, h, drop_repeated_contexts=direct, reasoning=CHANNEL)
    assert np.array_equal(plain.reasons, borders.reasons)
    assert np.array_equal(plain.contexts, borders.contexts)
    assert np.array_equal(plain.tokens, borders.tokens)


@pytest.mark.parametrize("name", ["gumbel", "tracer", "red-green"])
def test_the_answer_alone_is_marked_as_if_there_had_been_no_reasoning(name: str) -> None:
    """Every token from the (h + 1)st on, unless its context stood before it in the answer."""
    config = replace(preset(name), reasoning=CHANNEL)
    n_marked, scores = 0, []
    for seed in range(2):
        answer = _answer(_with_reasoning(config, seed))
        chosen = _selected(config, answer)
        prf = Prf.from_key(KEY)
        hashes = prf.context_hashes(np.ascontiguousarray(chosen.contexts))
        everything = np.arange(VOCABULARY)[None].repeat(len(chosen.tokens), axis=0)
        words = np.stack([prf.words(hashes, everything, s) for s in range(config.scheme.n_streams)])
        n_marked += chosen.n_scored
        scores.append(_scores(config, answer))
        if name == "gumbel":
            _assert_all_drawn_by_key(seed, answer, chosen, words[0])
    pooled = np.concatenate(scores)
    log_p = log_tails(config.scheme.law, np.array([pooled.sum()]), np.array([n_marked]))
    assert float(log_p[0]) / np.log(10) < -4


def _assert_all_drawn_by_key(
    seed: int, answer: NDArray[np.int64], chosen: Selection, words: NDArray[np.uint32]
) -> None:
    """Each scored token is the keyed winner of its own logits: none of them was left unmarked."""
    positions = np.flatnonzero(chosen.reasons == Reason.SCORED)
    assert positions[0] == 2
    for row, t in enumerate(positions.tolist()):
        logits = _logits(seed, answer[t - 2 : t].tolist())
        noise = -np.log(-np.log((words[row, :60] + 0.5) / 2**32))
        assert int((logits + noise).argmax()) == answer[t]


def test_without_the_reset_the_answer_alone_would_lose_its_mark() -> None:
    """The rule is broken here: of eight kinds of tokens reasoning has met nearly all contexts."""
    config, kept, broken = replace(preset("gumbel"), reasoning=CHANNEL), [], []
    for seed in range(3):
        for how, scores in ((config, kept), (preset("gumbel"), broken)):
            ids = _with_reasoning(how, seed, n_reasoning=300, n_kinds=8)
            scores.append(_scores(config, _answer(ids)))
    # Some 50 pairs of each answer: an exponential mean has SD 0.08.
    assert np.concatenate(broken).mean() < 1.3 < 1.8 < np.concatenate(kept).mean()


def test_a_text_with_both_channels_scores_both_and_each_pair_once() -> None:
    config = replace(preset("tracer"), reasoning=CHANNEL)
    ids = _with_reasoning(config, 1, n_kinds=20)
    whole = _selected(config, ids)
    end = int(np.flatnonzero(ids == END[0])[0])
    parts = [_selected(config, ids[2:end]), _selected(config, ids[end + 1 :])]
    rows = [np.column_stack([p.contexts, p.tokens]) for p in parts]
    distinct = {tuple(row) for row in np.concatenate(rows).tolist()}
    assert whole.n_scored == len(distinct) < sum(p.n_scored for p in parts)
    assert {*zip(whole.contexts[:, 0].tolist(), whole.tokens.tolist(), strict=True)} == distinct
    counts = whole.reason_counts()
    assert counts["border"] == 3
    assert counts["no_context"] == 2
    assert counts["repeated_pair"] > 0


def _hostile(n: int) -> NDArray[np.int64]:
    """One line again and again with borders around it, so that every piece repeats the last."""
    line = [*BEGIN, 5, 6, 7, 8, 9, *END, 5, 6, 7, 8, 10]
    return np.array([x for i in range(n) for x in [*line, 100 + i % 7]])


def _p_values(
    config: WatermarkConfig, n_keys: int, *, counts_each_piece: bool = False
) -> NDArray[np.float64]:
    ids, law = _hostile(40), config.scheme.law
    chosen = _selected(config, ids)
    pieces = [chosen]
    if counts_each_piece:
        starts = np.unique(CHANNEL.place(ids).starts)
        pieces = [
            _selected(config, ids[a:b])
            for a, b in zip(starts, [*starts[1:], len(ids)], strict=True)
        ]
    rng, logs = np.random.default_rng(3), []
    for _ in range(n_keys):
        prf = Prf.from_key(SecretKey(rng.bytes(32)))
        scores = np.concatenate([score_pairs(piece, config, prf) for piece in pieces])
        logs.append(log_tails(law, np.array([scores.sum()]), np.array([len(scores)]))[0])
    return np.exp(np.array(logs))


def test_a_hostile_text_full_of_borders_has_valid_p_values() -> None:
    """H0: 800 keys; Kolmogorov-Smirnov at 1e-6: 2.7 / sqrt(n)."""
    config = replace(preset("gumbel"), reasoning=CHANNEL)
    p = np.sort(_p_values(config, 800))
    assert np.abs(p - np.arange(1, len(p) + 1) / len(p)).max() < 2.7 / len(p) ** 0.5


def test_counting_a_pair_in_every_piece_accuses_the_innocent() -> None:
    config = replace(preset("gumbel"), reasoning=CHANNEL)
    assert (_p_values(config, 60, counts_each_piece=True) <= 1e-6).mean() > 0.05


def test_reasoning_that_is_not_marked_is_not_scored() -> None:
    channel = replace(CHANNEL, is_marked=False)
    config = replace(preset("gumbel"), reasoning=channel)
    ids = _with_reasoning(config, 2)
    chosen = _selected(config, ids)
    assert chosen.reason_counts()["unmarked_channel"] == 120
    assert np.flatnonzero(chosen.reasons == Reason.SCORED)[0] == 2 + 120 + 1 + 2
    # Read as one text, what was not marked would dilute it.
    careless = score_pairs(
        select_pairs(ids, 2, drop_repeated_contexts=True), config, Prf.from_key(KEY)
    )
    assert careless.mean() < score_pairs(chosen, config, Prf.from_key(KEY)).mean()


def test_detect_and_scan_know_the_borders_by_the_config(tokenizer: TextTokenizer) -> None:
    begin, end = tokenizer.encode("<think>").tolist(), tokenizer.encode("</think>").tolist()
    channel = ReasoningChannel(tuple(begin), tuple(end), is_marked=False)
    config = replace(preset("default"), reasoning=channel)
    text = "<think>The old captain read the book.</think>The wind rose and the sea grew loud."
    found = assess_text(text, tokenizer=tokenizer, config=config, key=KEY)
    reasons = found.to_dict(tokens=False)["reasons"]
    assert reasons["border"] == len(begin) + len(end)
    assert reasons["unmarked_channel"] == len(tokenizer.encode("The old captain read the book."))
    assert reasons["no_context"] == 2
    scanned = scan_corpus([Document("a", "a", text)], tokenizer=tokenizer, config=config, key=KEY)
    assert {k: scanned.reasons[k] for k in reasons} == reasons


def test_borders_that_the_tokenizer_does_not_have_are_refused(tokenizer: TextTokenizer) -> None:
    config = replace(preset("default"), reasoning=ReasoningChannel((1,), (5_000,)))
    with pytest.raises(ConfigError, match="5000"):
        assess_tokens(np.arange(9), tokenizer=tokenizer, config=config, key=KEY)
    with pytest.raises(ConfigError, match="5000"):
        scan_corpus([], tokenizer=tokenizer, config=config, key=KEY)


def test_gated_text_is_diluted_and_never_wrong() -> None:
    """The detector knows nothing of the gate: marked text is found, at random keys p is uniform."""
    config = replace(preset("red-green"), min_entropy=4.0)
    ids = marked_ids(config, KEY, 300, vocabulary=300, seed=3)
    every = marked_ids(preset("red-green"), KEY, 300, vocabulary=300, seed=3)
    scores = _scores(config, ids)
    law = config.scheme.law
    own = log_tails(law, np.array([scores.sum()]), np.array([len(scores)]))[0] / np.log(10)
    assert own < -6
    assert scores.mean() <= _scores(preset("red-green"), every).mean()
    rng, chosen, logs = np.random.default_rng(5), _selected(config, ids), []
    for _ in range(600):
        drawn = score_pairs(chosen, config, Prf.from_key(SecretKey(rng.bytes(32))))
        logs.append(log_tails(law, np.array([drawn.sum()]), np.array([len(drawn)]))[0])
    # 5.5 binomial standard errors: false alarms 1e-7.
    assert (np.exp(logs) <= 0.1).mean() < 0.1 + 5.5 * (0.1 / 600) ** 0.5
