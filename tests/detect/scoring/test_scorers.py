"""Scores by name: every one is a valid test of every scheme that can have it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detect.decoys import decoy_keys, decoy_statistics, run_decoys
from detect.scoring.scorers import SCORES, choose_scorer
from detect.tails.nulls import log_tails, tail
from detect.text import assess_tokens
from tests.detect.synthetic import marked_ids
from watermark.config import PRESETS, preset
from watermark.errors import ConfigError
from watermark.keys import SecretKey
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
PAIRS = np.random.default_rng(0).integers(0, 5000, (150, 3))


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("preset_name", ["default", "gumbel"])
def test_p_values_under_fresh_keys_are_uniform(name: str, preset_name: str) -> None:
    """H0 by construction: keys that were never used; binomial error at three levels."""
    scorer = SCORES[name](preset(preset_name).scheme)
    sums = decoy_statistics(scorer, decoy_keys(4000, 5), PAIRS[:, :2], PAIRS[:, 2])
    n = np.full(len(sums), len(PAIRS))
    p = np.exp(log_tails(scorer.law, sums + len(PAIRS) * scorer.law.mean, n))
    for alpha in (0.5, 0.05, 0.01):
        error = math.sqrt(alpha * (1 - alpha) / len(p))
        assert abs((p <= alpha).mean() - alpha) < 4.5 * error


@pytest.mark.parametrize("preset_name", sorted(PRESETS))
@pytest.mark.parametrize("use", ["direct", "inherited"])
def test_every_preset_has_a_default(preset_name: str, use: str) -> None:
    scheme = preset(preset_name).scheme
    scorer = choose_scorer(None, scheme, use)  # type: ignore[arg-type]
    assert scorer.n_streams == scheme.n_streams
    assert tail(scorer.law, scorer.law.mean * 10, 10).method == "exact"
    is_gumbel = "gumbel" in scheme.name
    expected = {"direct": "typical", "inherited": "weak"}[use] if is_gumbel else "own"
    assert scorer.score_name == expected


def test_a_score_that_a_scheme_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="own score"):
        choose_scorer("weak", preset("tournament").scheme, "inherited")


def test_every_score_sees_marked_text_and_its_decoys_do_not(tokenizer: TextTokenizer) -> None:
    config = preset("default")
    ids = marked_ids(config, KEY, 150, vocabulary=60, seed=4)
    for name in SCORES:
        result = assess_tokens(
            ids, tokenizer=tokenizer, config=config, key=KEY, n_decoys=200, score=name
        )
        payload = result.to_dict(tokens=False)
        assert payload["score"] == name
        assert payload["log10_p"] < -6
        assert payload["decoys"]["n_at_least"] == 0


def test_decoys_of_a_table_are_centred() -> None:
    """Their mean is that of the null: nothing is left of the table's own mean."""
    scorer = SCORES["weak"](preset("default").scheme)
    found = run_decoys(scorer, PAIRS[:, :2], PAIRS[:, 2], 0.0, n_decoys=2000, seed=1)
    deviation = math.sqrt(len(PAIRS) * scorer.law.variance)
    assert abs(found.mean) < 5 * deviation / math.sqrt(2000)
    assert found.deviation == pytest.approx(deviation, rel=0.1)
