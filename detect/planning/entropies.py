"""Marked texts made up from an entropy: next-token distributions without a model.

A distribution has normal logits over 256 tokens. Their standard deviation is log-normal: it varies
from token to token, and a little from text to text. The scheme itself marks it (`Scheme.embed`, so
that any scheme can be planned for), a token is drawn, and its words are scored.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from detect.planning.pilots import TextPilot, pilot_of_scores
from detect.scoring.score_tables import Scorer
from watermark.errors import ConfigError, MissingExtraError
from watermark.schemes import Scheme

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MODEL_ENTROPY", "entropy_at", "pilot_of_entropy"]

# SmolLM2-135M-Instruct's stories and essays at temperature 1, top-k 50, h = 2
# (benchmarks/results/power.json). At this entropy the made-up texts have the mean score of the
# first 32 pairs of the real ones: later tokens carry more. The spreads are log-standard deviations
# of the logits' scale.
MODEL_ENTROPY: Final = 1.8
_TOKEN_SPREAD: Final = 0.3
_TEXT_SPREAD: Final = 0.13
# Pairs that can be scored in the first tokens of a text: repeats grow with its length.
_SCORED_BY_LENGTH: Final = ((0, 0), (2, 0), (50, 46), (100, 91), (200, 170), (350, 277), (500, 374))
_VOCABULARY: Final = 256
_MOST_ENTROPY: Final = 4.5
_TEXTS, _TOKENS = 48, 96


def entropy_at(temperature: float) -> float:
    """Compute the mean entropy of the model ensemble at a temperature.

    Args:
        temperature: > 0; 1 gives `MODEL_ENTROPY`.

    Returns:
        Nats a token.

    Raises:
        ConfigError: a temperature out of range.
    """
    if not 0 < temperature < 100:
        raise ConfigError(f"the temperature must lie in (0, 100), got {temperature}")
    logits = _logits(np.random.default_rng(0), 16 * _TOKENS)
    return _mean_entropy(_scale_for(MODEL_ENTROPY, logits) / temperature * logits)


def pilot_of_entropy(
    scheme: Scheme,
    entropy: float,
    *,
    scorer: Scorer | None = None,
    min_entropy: float = 0.0,
    seed: int = 0,
) -> TextPilot:
    """Make up a pilot of 48 marked texts.

    Args:
        scheme: the scheme.
        entropy: mean entropy of the distributions that tokens are drawn from, in nats: after
            temperature and truncation.
        scorer: what scores words; None is the scheme itself.
        min_entropy: of an entropy gate: tokens with less are drawn unmarked, and scored.
        seed: of the made-up texts.

    Returns:
        The pilot.

    Raises:
        ConfigError: an entropy out of range.
        MissingExtraError: torch is not installed.
    """
    if not 0 < entropy <= _MOST_ENTROPY:
        raise ConfigError(f"the entropy must lie in (0, {_MOST_ENTROPY}] nats, got {entropy}")
    rng = np.random.default_rng(seed)
    logits = _logits(rng, _TEXTS * _TOKENS)
    logits *= _scale_for(entropy, logits)
    scorer = scorer or scheme
    is_left = _entropies(logits) < min_entropy
    scores = list(_marked_scores(scheme, scorer, logits, is_left, rng).reshape(_TEXTS, _TOKENS))
    source = f"made-up texts of {entropy:.2f} nats a token"
    if min_entropy:
        source += f", {is_left.mean():.0%} of which the gate of {min_entropy:g} nats leaves"
    made_up = pilot_of_scores(scorer, scores, [np.ones(_TOKENS, np.bool_)], source)
    return replace(made_up, coverage=_SCORED_BY_LENGTH)


def _logits(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Logits of n tokens in texts of 96, at scale 1."""
    n_texts = n // _TOKENS
    scale = np.repeat(_TEXT_SPREAD * rng.normal(size=n_texts), _TOKENS)
    scale = np.exp(scale + _TOKEN_SPREAD * rng.normal(size=n))
    return np.asarray(scale[:, None] * rng.normal(size=(n, _VOCABULARY)), np.float64)


def _entropies(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    logs = log_softmax(logits, axis=1)
    return np.asarray(-(np.exp(logs) * logs).sum(axis=1))


def _mean_entropy(logits: NDArray[np.float64]) -> float:
    return float(_entropies(logits).mean())


def _scale_for(entropy: float, logits: NDArray[np.float64]) -> float:
    """Find the factor on the logits that gives this mean entropy."""
    from scipy.optimize import brentq

    some = logits[:: max(len(logits) // 1024, 1)]
    log_scale = brentq(
        lambda x: _mean_entropy(math.exp(x) * some) - entropy, math.log(1e-2), math.log(1e4),
        xtol=1e-4,
    )  # fmt: skip
    return math.exp(log_scale)


def _marked_scores(
    scheme: Scheme,
    scorer: Scorer,
    logits: NDArray[np.float64],
    is_left: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Let the scheme mark each distribution under fresh words, draw a token, score it."""
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "hf") from None
    n, width = logits.shape
    words = rng.integers(0, 1 << 32, (scheme.n_streams, n, width), np.uint32)
    coins = torch.from_numpy(rng.random(n))
    streams = scheme.route(coins).numpy()
    used = torch.from_numpy(words[streams, np.arange(n)].astype(np.int64))
    plain = torch.from_numpy(logits)
    marked = torch.where(torch.from_numpy(is_left)[:, None], plain, scheme.embed(plain, used))
    chosen = _draw(marked, torch.from_numpy(rng.random((n, 1))))
    return scorer.score(words[: scorer.n_streams, np.arange(n), chosen])


def _draw(logits: Tensor, uniform: Tensor) -> NDArray[np.int64]:
    """Draw a column of each row by the inverse of the cumulative distribution."""
    cumulative = logits.softmax(dim=1).cumsum(dim=1)
    drawn = (cumulative <= uniform * cumulative[:, -1:]).sum(dim=1)
    chosen: NDArray[np.int64] = drawn.clamp(max=logits.shape[1] - 1).numpy()
    return chosen
