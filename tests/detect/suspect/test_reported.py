"""Reported log-probabilities: aligned by bytes, valid for innocents, telling for students."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from detect.decoys import decoy_keys, decoy_statistics
from detect.finding import Plan
from detect.suspect.distributions import assess_reports
from detect.suspect.exchanges import ReportedPosition, SuspectAnswer
from detect.suspect.reading import PairWeights
from detect.suspect.reported import reported_pairs
from detect.suspect.weighing import weigh
from detect.tails.convolution import convolution_log_tails
from detect.tails.mixed_sums import MixedLaw
from watermark.config import preset
from watermark.errors import ModelError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.tokens import TextTokenizer

CONFIG, KEY = preset("default"), SecretKey(bytes(range(32)))
SCHEME = DualGumbel(alpha=0.1)


def _whole_words(tokenizer: TextTokenizer) -> list[int]:
    texts = [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]
    return [
        i
        for i, t in enumerate(texts)
        if t[:1] == " " and t[1:].isalpha() and tokenizer.encode(t).tolist() == [i]
    ]


def _answer(
    tokenizer: TextTokenizer, n: int, seed: int, key: SecretKey | None = None
) -> SuspectAnswer:
    """Draw words among five candidates each; a student likes those with a high score more."""
    rng, words = np.random.default_rng(seed), _whole_words(tokenizer)
    spoken: list[int] = []
    reported, start = [], 0
    for _ in range(n):
        candidates = rng.choice(words, 5, replace=False)
        logits = rng.normal(size=5)
        if key is not None and len(spoken) >= 2:
            prf = Prf.from_key(key)
            hashes = prf.context_hashes(np.array([spoken[-2:]]))
            drawn = np.stack([prf.words(hashes, candidates[None], s)[0] for s in range(2)])
            logits = logits + 0.5 * SCHEME.score(drawn)
        log_probs = logits - np.log(np.exp(logits).sum())
        pick = int(rng.choice(candidates, p=np.exp(log_probs)))
        shown = tuple(tokenizer.decode([i]).encode() for i in candidates.tolist())
        reported.append(ReportedPosition(start, shown, tuple(log_probs.tolist())))
        start += len(tokenizer.decode([pick]).encode())
        spoken.append(pick)
    text = tokenizer.decode(spoken)
    assert tokenizer.encode(text).tolist() == spoken
    return SuspectAnswer("Go:", text, tuple(reported))


def test_weights_are_roots_of_what_was_reported(tokenizer: TextTokenizer) -> None:
    answer = _answer(tokenizer, 12, seed=1)
    pairs = reported_pairs(tokenizer, [answer], 2)
    ids = tokenizer.encode(answer.text)
    assert pairs.n_positions == 10
    first = [i for i, c in enumerate(pairs.contexts.tolist()) if c == ids[:2].tolist()]
    shown = dict(zip(answer.reported[2].tokens, answer.reported[2].log_probs, strict=True))
    expected = {tokenizer.encode(t.decode())[0]: math.exp(p / 2) for t, p in shown.items()}
    assert {pairs.tokens[i]: pytest.approx(pairs.weights[i]) for i in first} == expected


def test_other_tokens_of_the_suspect_are_aligned_by_bytes(tokenizer: TextTokenizer) -> None:
    """A suspect that cuts two words as one reports nothing on the second."""
    answer = _answer(tokenizer, 12, seed=2)
    coarse = SuspectAnswer("Go:", answer.text, answer.reported[::2])
    pairs = reported_pairs(tokenizer, [coarse], 2)
    assert pairs.n_positions == 5
    assert pairs.reasons["not_reported"] == 5
    alien = SuspectAnswer(
        "Go:", answer.text, tuple(ReportedPosition(r.start, (b"\xff\xfe",), (-0.1,)) for r in
                                  answer.reported)
    )  # fmt: skip
    assert len(reported_pairs(tokenizer, [alien], 2).tokens) == 0


def _log10_ps(pairs: PairWeights, n_keys: int) -> np.ndarray:
    weighed = weigh(SCHEME, pairs)
    sums = decoy_statistics(weighed.scorer, decoy_keys(n_keys, 4), weighed.contexts, weighed.tokens)
    law = weighed.scorer.law
    assert isinstance(law, MixedLaw)
    units = np.rint((sums + law.n * law.mean) / law.parts[0].law.step).astype(np.int64)
    return convolution_log_tails(law.parts, units) / math.log(10)


def test_an_innocent_endpoint_has_uniform_p_values(tokenizer: TextTokenizer) -> None:
    """H0: 5,000 fresh keys, answers that repeat themselves included; binomial at 1e-6."""
    answers = [_answer(tokenizer, 40, seed=i % 6) for i in range(9)]
    logs = _log10_ps(reported_pairs(tokenizer, answers, 2), 5_000)
    for level in (0.5, 0.1, 0.01, 0.001):
        assert binomtest(int((logs <= math.log10(level)).sum()), 5_000, level).pvalue > 1e-6


def test_a_student_is_found_by_its_reports(tokenizer: TextTokenizer) -> None:
    plan = Plan(CONFIG, KEY, 1e-6, 0.05, 199, 0)
    found = {}
    for name, key in (("student", KEY), ("twin", None)):
        answers = [_answer(tokenizer, 60, seed=50 + i, key=key) for i in range(30)]
        pairs = reported_pairs(tokenizer, answers, 2)
        found[name] = assess_reports(plan, pairs, 1800).finding
    assert found["student"].verdict.value == "signal"
    assert found["twin"].verdict.value != "signal"


def test_an_endpoint_without_reports_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ModelError, match="--access text"):
        reported_pairs(tokenizer, [SuspectAnswer("Go:", "The harbour was quiet.")], 2)
