"""One text: verdicts, bad input, and the JSON result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.finding import Plan
from detect.scoring.scores import score_pairs
from detect.tails.nulls import log_tails
from detect.text import assess_text, assess_tokens
from tests.detect.synthetic import marked_ids
from watermark.config import WatermarkConfig, preset
from watermark.errors import ConfigError, DocumentError, FingerprintError
from watermark.keys import SecretKey
from watermark.schemes.green_list import GreenList
from watermark.schemes.red_green import RedGreen
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")
SHARED = {"p_value", "log10_p", "n_scored", "n_tokens", "verdict", "scheme", "key_id", "limits"}


@pytest.mark.parametrize("text", ["", "a", "an"])
def test_next_to_nothing_is_inconclusive(tokenizer: TextTokenizer, text: str) -> None:
    result = assess_text(text, tokenizer=tokenizer, config=CONFIG, key=KEY).to_dict(tokens=True)
    assert result["verdict"] == "inconclusive"
    assert result["p_value"] == 1.0 or result["n_scored"] > 0
    assert result["n_tokens"] == result["n_scored"] + sum(result["reasons"].values())
    assert "".join(t["text"] for t in result["tokens"]) == text


def test_marked_ids_are_a_signal_and_decoys_agree(tokenizer: TextTokenizer) -> None:
    ids = marked_ids(CONFIG, KEY, 120, vocabulary=tokenizer.vocab_size, seed=0)
    result = assess_tokens(ids, tokenizer=tokenizer, config=CONFIG, key=KEY, n_decoys=199)
    payload = result.to_dict(tokens=False)
    assert payload["verdict"] == "signal"
    assert payload["log10_p"] < -15
    assert payload["decoys"]["p_value"] == 1 / 200
    assert set(payload) >= SHARED
    assert payload["curve"]["log10_p"][-1] == pytest.approx(payload["log10_p"], abs=1e-3)
    assert KEY.key_id == payload["key_id"]
    assert bytes(range(32)).hex() not in json.dumps(payload, allow_nan=False)


def test_the_marked_text_under_another_key_is_nothing(tokenizer: TextTokenizer) -> None:
    ids = marked_ids(CONFIG, KEY, 400, vocabulary=tokenizer.vocab_size, seed=0)
    other = SecretKey(bytes(32))
    result = assess_tokens(ids, tokenizer=tokenizer, config=CONFIG, key=other)
    # Fixed key and text: a value, not a chance. The null p-value is what it is.
    assert result.finding.verdict.value in ("no_signal", "inconclusive")
    assert result.finding.tail.log10_p > -4


def test_verdicts_are_no_truth_values(tokenizer: TextTokenizer) -> None:
    with pytest.raises(TypeError, match="three values"):
        bool(assess_text("x", tokenizer=tokenizer, config=CONFIG, key=KEY).finding.verdict)


def test_another_tokenizer_is_refused_not_guessed(tokenizer: TextTokenizer) -> None:
    bound = CONFIG.bound_to("sha256:" + "0" * 64)
    with pytest.raises(FingerprintError, match="provider's tokenizer"):
        assess_text("some text", tokenizer=tokenizer, config=bound, key=KEY)
    unbound = assess_text("some text", tokenizer=tokenizer, config=CONFIG, key=KEY)
    assert any("not bound to a tokenizer" in s for s in unbound.limits)
    right = CONFIG.bound_to(tokenizer.fingerprint)
    assert len(assess_text("x", tokenizer=tokenizer, config=right, key=KEY).limits) == 2


def test_a_reference_that_learned_the_mark_accuses_the_innocent(tokenizer: TextTokenizer) -> None:
    """What an entropy gate left must be told by a model that has not seen the key.

    After each context one of four tokens follows, all alike likely. To who has learned the mark the
    choice is less where colours differ; with three quarters green, what is left is mostly green.
    """
    config, rng, n = WatermarkConfig(RedGreen(0.75, 2.0), 2), np.random.default_rng(4), 1500
    prf, size = config.source.under(KEY), tokenizer.vocab_size
    ids = rng.integers(0, size, n)
    candidates = np.column_stack([rng.integers(0, size, (n - 2, 3)), ids[2:]])
    contexts = np.lib.stride_tricks.sliding_window_view(ids[:-1], 2)
    words = prf.words(prf.context_hashes(np.ascontiguousarray(contexts)), candidates)
    tilted = np.exp(2.0 * (words < config.scheme.first_red))  # type: ignore[attr-defined]
    p = tilted / tilted.sum(axis=1, keepdims=True)
    learned = np.append([0.0, 0.0], -(p * np.log(p)).sum(axis=1))
    gated = replace(config, min_entropy=1.38)
    for entropies, least, most in ((learned, -400, -5), (np.full(n, np.log(4)), -3, 0)):
        tested = assess_tokens(ids, tokenizer=tokenizer, config=gated, key=KEY, entropies=entropies)
        assert least < tested.finding.tail.log10_p < most
        assert any("must not have learned" in limit for limit in tested.limits)
    plain = assess_tokens(ids, tokenizer=tokenizer, config=config, key=KEY)
    assert not any("must not have learned" in limit for limit in plain.limits)


def test_what_a_deployment_leaves_unmarked_is_said(tokenizer: TextTokenizer) -> None:
    gated = replace(CONFIG, min_entropy=1.0).bound_to(tokenizer.fingerprint)
    limits = assess_text("some text", tokenizer=tokenizer, config=gated, key=KEY).limits
    assert "tokens of less than 1 nats unmarked" in limits[-1]


def test_a_gated_deployment_needs_more_text_for_a_negative_verdict() -> None:
    """The weakest measured: a gate of 2 nats leaves 0.137 of the strength in code."""
    plans = [Plan(replace(CONFIG, min_entropy=x), KEY, 1e-6, 0.344, 0, 0) for x in (0.0, 2.0)]
    assert plans[1].n_powered > plans[0].n_powered / 0.137**2


def test_ids_that_the_tokenizer_lacks_are_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(DocumentError, match="not in the tokenizer"):
        assess_tokens(
            np.array([1, 2, tokenizer.vocab_size]), tokenizer=tokenizer, config=CONFIG, key=KEY
        )


def test_lone_surrogates_are_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(DocumentError, match="surrogate"):
        assess_text("a\ud800b", tokenizer=tokenizer, config=CONFIG, key=KEY)


def test_a_reference_model_needs_fewer_tokens(tokenizer: TextTokenizer, model_folder: Path) -> None:
    """A real model's marked text, read by the model itself: the likelihood ratio beats the rest."""
    from detect.scoring.reference_text import token_log_probs
    from detect.suspect.exchanges import ReadingText
    from detect.suspect.open_weights import TransformersSuspect
    from watermark.generation.answering import answer_prompts

    config, reader = preset("gumbel"), TransformersSuspect(model_folder)
    answered = answer_prompts(
        model_folder, ["Tell of the sea."], config=config, key=KEY, max_new_tokens=60
    )
    ids = answered.rows[0]["token_ids"]
    text = ReadingText(reader.chat_ids("Tell of the sea."), tuple(ids))
    shared: dict[str, Any] = {
        "tokenizer": tokenizer, "config": config, "log_probs": token_log_probs(reader, text),
        "n_decoys": 300,
    }  # fmt: skip
    known = assess_tokens(np.array(ids), key=KEY, **shared)
    payload = known.to_dict(tokens=True)
    assert (payload["score"], payload["method"]) == ("reference", "exact")
    assert payload["decoys"]["n_at_least"] == 0
    plain = assess_tokens(np.array(ids), tokenizer=tokenizer, config=config, key=KEY, score="own")
    assert known.finding.tail.log10_p < 1.1 * plain.finding.tail.log10_p < -6
    wrong = assess_tokens(np.array(ids), key=SecretKey(bytes(32)), **shared).finding
    assert wrong.tail.p_value > 1e-4
    assert wrong.decoys is not None
    assert wrong.decoys.p_value == pytest.approx(wrong.tail.p_value, abs=0.12)


def test_a_temperature_sharpens_what_the_reference_says(model_folder: Path) -> None:
    from detect.scoring.reference_text import token_log_probs
    from detect.suspect.exchanges import ReadingText
    from detect.suspect.open_weights import TransformersSuspect

    reader, text = TransformersSuspect(model_folder), ReadingText((5, 6), (7, 8, 9))
    (positions,) = reader.read([text])
    rows = positions.probabilities.double() ** (1 / 0.5)
    expected = (rows / rows.sum(dim=1, keepdim=True))[[0, 1, 2], [7, 8, 9]].log().numpy()
    assert token_log_probs(reader, text, temperature=0.5) == pytest.approx(expected, rel=1e-6)
    assert token_log_probs(reader, ReadingText((5,), ())).shape == (0,)


def test_a_reference_replays_the_gate(
    tokenizer: TextTokenizer, model_folder: Path, tmp_path: Path
) -> None:
    """Read by the model that wrote it, what the gate left is known, and no longer dilutes."""
    from click.testing import CliRunner

    from detect.cli import heirmark
    from detect.scoring.reference_text import token_entropies
    from detect.suspect.exchanges import ReadingText
    from detect.suspect.open_weights import TransformersSuspect
    from watermark.generation.answering import answer_prompts
    from watermark.keyring.key_files import save_key

    config, prompt = replace(preset("red-green"), min_entropy=4.2), "Tell of the sea."
    rows, config_used = answer_prompts(
        model_folder, [prompt], config=config, key=KEY, max_new_tokens=110, seed=2
    )
    assert config_used is not None
    reader, ids = TransformersSuspect(model_folder), np.array(rows[0]["token_ids"])
    read = ReadingText(reader.chat_ids(prompt), tuple(ids.tolist()))
    entropies = token_entropies(reader, read)
    shared: dict[str, Any] = {"tokenizer": tokenizer, "config": config_used, "key": KEY}
    plain, replayed = (
        assess_tokens(ids, **shared),
        assess_tokens(ids, entropies=entropies, **shared),
    )
    left = replayed.selection.reason_counts()["low_entropy"]
    assert 0.1 * len(ids) < left < 0.9 * len(ids)
    assert replayed.selection.n_scored + left <= plain.selection.n_scored + 3
    assert replayed.scores.mean() > plain.scores.mean() + 0.02
    assert replayed.finding.tail.log10_p < plain.finding.tail.log10_p
    with pytest.raises(ConfigError, match="no entropy gate"):
        assess_tokens(ids, tokenizer=tokenizer, config=CONFIG, key=KEY, entropies=entropies)
    for bad in (entropies[1:], np.full(len(ids), np.nan)):
        with pytest.raises(DocumentError, match="an entropy for each"):
            assess_tokens(ids, entropies=bad, **shared)

    (tmp_path / "config.json").write_text(json.dumps(config_used.to_dict()))
    (tmp_path / "text.txt").write_text(rows[0]["text"])
    (tmp_path / "prompt.txt").write_text(prompt)
    save_key(KEY, tmp_path / "k.json")
    arguments = ["detect", str(tmp_path / "text.txt"), "--key", str(tmp_path / "k.json"), "--json"]
    arguments += ["--config", str(tmp_path / "config.json"), "--tokenizer", str(model_folder)]
    done = CliRunner().invoke(heirmark, [*arguments, "--reference", str(model_folder)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["reasons"]["low_entropy"] > 0


def test_the_replay_is_valid_whatever_the_reference_says(tokenizer: TextTokenizer) -> None:
    """H0: a text and entropies of any kind, 800 random keys; 5.5 standard errors (1e-7)."""
    rng = np.random.default_rng(4)
    ids = np.tile(rng.integers(2, 40, 150), 2)
    config = replace(preset("red-green"), min_entropy=2.0)
    selection = assess_tokens(
        ids, tokenizer=tokenizer, config=config, key=KEY, entropies=(ids % 7).astype(np.float64)
    ).selection
    assert len(np.unique(np.column_stack([selection.contexts, selection.tokens]), axis=0)) == (
        selection.n_scored
    )
    sums = []
    for _ in range(800):
        key = SecretKey(rng.bytes(32))
        sums.append(score_pairs(selection, config, config.source.under(key)).sum())
    n_scored = np.full(len(sums), selection.n_scored)
    p_values = np.exp(log_tails(config.scheme.law, np.array(sums), n_scored))
    for alpha in (0.5, 0.1, 0.01):
        assert (p_values <= alpha).mean() < alpha + 5.5 * (alpha / len(p_values)) ** 0.5


def test_log_probs_that_do_not_fit_are_refused(tokenizer: TextTokenizer) -> None:
    shared: dict[str, Any] = {
        "tokenizer": tokenizer, "config": preset("gumbel"), "key": SecretKey(bytes(32)),
    }  # fmt: skip
    with pytest.raises(DocumentError, match="a log-probability for each"):
        assess_text("The harbour was quiet.", log_probs=np.zeros(1), **shared)
    n = len(tokenizer.encode("The harbour was quiet."))
    with pytest.raises(ConfigError, match="leave out 'weak'"):
        assess_text("The harbour was quiet.", log_probs=np.zeros(n), score="weak", **shared)


def test_a_weak_bias_needs_more_text_before_nothing_means_nothing() -> None:
    sizes = [
        Plan(WatermarkConfig(RedGreen(0.5, delta), 2), KEY, 1e-6, 0.344, 0, 0).n_powered
        for delta in (4.0, 2.0, 0.5, 0.05)
    ]
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3]
    assert sizes[3] > 100_000


def test_a_green_list_of_an_exact_size_needs_as_much() -> None:
    """Half of an even vocabulary is green: the same mark as red-green at gamma 1/2."""
    for delta in (2.0, 0.5):
        n_powered = [
            Plan(WatermarkConfig(scheme, 2), KEY, 1e-6, 0.344, 0, 0).n_powered
            for scheme in (RedGreen(0.5, delta), GreenList(250, 500, delta))
        ]
        assert n_powered[0] == n_powered[1]
