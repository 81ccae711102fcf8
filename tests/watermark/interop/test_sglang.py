"""SGLang's hash: frozen words of its own code, the null and the power."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import gamma as gamma_law
from scipy.stats import kstest

from watermark.config import WatermarkConfig
from watermark.errors import ConfigError
from watermark.interop.sglang import SglangWords
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel

VECTORS = Path(__file__).parents[2] / "vectors" / "sglang.json"
SETS = json.loads(VECTORS.read_text())["sets"]


@pytest.mark.parametrize("frozen", SETS, ids=lambda s: f"{s['mixing_probability']}")
def test_words_are_those_that_sglang_gave(frozen: dict[str, list[int]]) -> None:
    source = SglangWords(frozen["mixing_probability"])  # type: ignore[arg-type]
    contexts, tokens = np.array(frozen["contexts"]), np.array(frozen["tokens"])
    for key, words in zip(np.array(frozen["keys"], np.uint64), frozen["words"], strict=True):
        found = source.words(key, source.context_hashes(key, contexts), tokens, 0)
        assert found.tolist() == words


@pytest.mark.parametrize("p", [0, 1, 1.0, 0.0, -0.5, "0.5", True])
def test_mixing_probabilities_out_of_range_are_refused(p: object) -> None:
    with pytest.raises(ConfigError, match="mixing_probability"):
        SglangWords(p)  # type: ignore[arg-type]


def test_other_schemes_and_windows_are_refused() -> None:
    with pytest.raises(ConfigError, match="scheme gumbel"):
        WatermarkConfig(DualGumbel(), 4, source=SglangWords(0.5))
    with pytest.raises(ConfigError, match="1 to 64"):
        SglangWords().check(Gumbel(), 65)


def test_the_coin_takes_key_a_with_its_probability() -> None:
    source = SglangWords(0.3)
    rng = np.random.default_rng(1)
    contexts, tokens = rng.integers(0, 49_152, (20_000, 4)), rng.integers(0, 49_152, 20_000)
    key = source.fresh_keys(1, 2)[0]
    words = source.words(key, source.context_hashes(key, contexts), tokens, 0)
    alone = SglangWords()
    of_a, of_b = (
        alone.words(k, alone.context_hashes(k, contexts), tokens, 0) for k in (key[:1], key[1:])
    )
    assert ((words == of_a) | (words == of_b)).all()
    # Three standard deviations of 20,000 coins.
    assert (words == of_a).mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("p", [None, 0.3])
def test_p_values_are_uniform_over_keys(p: float | None) -> None:
    """H0: text independent of the key. 20,000 keys, 200 pairs; false alarms of this test 1e-3."""
    source = SglangWords(p)
    rng = np.random.default_rng(3)
    contexts, tokens = rng.integers(0, 300, (200, 4)), rng.integers(0, 300, 200)
    words = source.words_for_keys(source.fresh_keys(20_000, 4), contexts, np.arange(200), tokens, 1)
    sums = Gumbel().score(words.reshape(1, -1)).reshape(-1, 200).sum(axis=1)
    p_values = gamma_law.sf(sums, 200)
    assert kstest(p_values, "uniform").pvalue > 1e-3
    # 20 expected below 1e-3; 40 or more have a probability of 5e-5.
    assert (p_values < 1e-3).sum() < 40
