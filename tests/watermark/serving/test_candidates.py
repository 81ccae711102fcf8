"""Marking what an engine has left: the tokens are those of a whole row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.watermark.serving.engine_doubles import KEYS
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig, preset
from watermark.errors import ConfigError
from watermark.serving.candidates import CandidateMarker

VOCABULARY = 600
KEY = KEYS["k1"]
RESPONSE = [5, 9, 2, 7]


def _marked(
    config: WatermarkConfig, ids: np.ndarray, logits: np.ndarray, response: list[int] = RESPONSE
) -> tuple[np.ndarray, np.ndarray] | None:
    marker = CandidateMarker(config, VOCABULARY)
    return marker.mark(marker.start(KEY, 7), response, ids, logits.astype(np.float32))


def _words(config: WatermarkConfig, ids: np.ndarray, stream: int) -> np.ndarray:
    words = config.source.under(KEY)
    h = config.context_width
    hashes = words.context_hashes(np.array([RESPONSE[len(RESPONSE) - h :]], dtype=np.int64))
    found: np.ndarray = words.words(hashes, ids[None], stream)[0]
    return found


@pytest.mark.parametrize("name", ["default", "gumbel"])
@pytest.mark.parametrize("whole", [True, False])
def test_the_winner_is_that_of_the_formula(name: str, whole: bool) -> None:
    """By the kernel for a whole vocabulary, by the scheme for a part in any order."""
    config, rng = preset(name), np.random.default_rng(3)
    order = np.arange(VOCABULARY) if whole else rng.permutation(VOCABULARY)[:40]
    logits = rng.normal(size=len(order)) * 3
    marked = _marked(config, order, logits)
    assert marked is not None
    ((place,), kept) = marked
    assert kept == logits.astype(np.float32)[place]
    winners = set()
    for stream in range(config.scheme.n_streams):
        uniform = (_words(config, order, stream) + 0.5) / 2.0**32
        winners.add(int(np.argmax(logits - np.log(-np.log(uniform)))))
    assert place in winners


def test_a_green_list_tilts_and_keeps_all() -> None:
    config = preset("red-green")
    ids = np.random.default_rng(1).permutation(VOCABULARY)[:50]
    marked = _marked(config, ids, np.zeros(50))
    assert marked is not None
    places, logits = marked
    assert places.tolist() == list(range(50))
    green = config.scheme.score(_words(config, ids, 0)[None])
    assert logits.tolist() == (2.0 * green).tolist()


@pytest.mark.parametrize("name", ["default", "red-green", "tournament"])
def test_what_is_forbidden_stays_forbidden(name: str) -> None:
    logits = np.full(30, -np.inf)
    logits[[4, 20]] = 0.0
    marked = _marked(preset(name), np.arange(30), logits)
    assert marked is not None
    assert set(marked[0].tolist()) <= {4, 20}


@pytest.mark.parametrize("response", [[], [5], [5, 9, 5, 9], [5, -1]])
def test_rows_without_a_context_of_their_own_are_left(response: list[int]) -> None:
    assert _marked(preset("default"), np.arange(30), np.zeros(30), response) is None


def test_what_the_config_leaves_unmarked_is_left() -> None:
    reasoning = ReasoningChannel((300,), (301,), is_marked=False)
    config = replace(preset("default"), min_entropy=0.5, reasoning=reasoning)
    ids, flat, sharp = np.arange(30), np.zeros(30), np.r_[20.0, np.zeros(29)]
    assert _marked(config, ids, flat) is not None
    assert _marked(config, ids, sharp) is None
    assert _marked(config, ids, flat, [300, *RESPONSE]) is None
    # After its end contexts begin anew: one token is no context of two.
    assert _marked(config, ids, flat, [300, *RESPONSE, 301, 4]) is None
    assert _marked(config, ids, flat, [300, *RESPONSE, 301, 5, 9]) is not None


def test_borders_beyond_the_vocabulary_are_refused() -> None:
    channel = ReasoningChannel((VOCABULARY,), (1,))
    with pytest.raises(ConfigError, match="would never be found"):
        CandidateMarker(replace(preset("default"), reasoning=channel), VOCABULARY)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_logits_are_left_and_counted(bad: float) -> None:
    marker = CandidateMarker(preset("default"), VOCABULARY)
    logits = np.zeros(30, np.float32)
    logits[3] = bad
    row = marker.start(KEY, 7)
    assert marker.mark(row, RESPONSE, np.arange(30), logits) is None
    assert marker.mark(row, [*RESPONSE, 1], np.arange(0), np.zeros(0, np.float32)) is None
    assert marker.tally.counts["bad logits"] == 2
    nothing = np.full(30, -np.inf, np.float32)
    assert marker.mark(row, [*RESPONSE, 1, 3], np.arange(30), nothing) is None


def test_no_secret_is_shown() -> None:
    marker = CandidateMarker(preset("default"), VOCABULARY)
    assert "hidden" in repr(marker.start(KEY, 7))
