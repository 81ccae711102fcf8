"""Predicted against achieved power on marked text of the real model.

Half of the texts are the pilot; from it the scored pairs and tokens for alpha 1e-6 and power 0.9
are predicted. The other half is then tested at just that length: what share is found? Beside it the
first-order normal formula, the prediction from an entropy alone, and where a sequential test stops.
"""

from __future__ import annotations

import math
import time
from typing import Any

import click
import numpy as np

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.record import write_result
from detect.planning.entropies import MODEL_ENTROPY, pilot_of_entropy
from detect.planning.pilots import TextPilot, pilot_of_scores
from detect.planning.planning import plan_power
from detect.planning.power import first_order, pairs_needed, power_of_text
from detect.planning.power_plan import PowerRequest
from detect.planning.tilting import Alternative
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import Reason, score_pairs, select_pairs
from detect.tails.nulls import log_tails
from watermark.config import WatermarkConfig, preset
from watermark.prf import Prf
from watermark.schemes.laws import ScoreLaw

_LEVELS = ((1e-3, 0.5), (1e-6, 0.5), (1e-6, 0.9), (1e-6, 0.99), (1e-12, 0.9))
_LEFT = (1.0, 0.25)
_SPLITS = 10
_TILTS = 0.95 * 1.5 ** -np.arange(12.0)

Scored = tuple[np.ndarray, np.ndarray]
Goal = tuple[float, float]


def _scored(
    config: WatermarkConfig, scorer: Scorer, text: MarkedText, share: float, seed: int
) -> Scored:
    """Scores in text order and the mask of scored tokens.

    With a share below 1 the rest of the pairs is scored under another key: unmarked pairs.
    """
    selection = select_pairs(text.token_ids, config.context_width, drop_repeated_contexts=True)
    scores = score_pairs(selection, config, Prf.from_key(text.key), scorer)
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 32, (scorer.n_streams, len(scores)), np.uint32)
    kept = rng.random(len(scores)) < share
    scores = np.where(kept, scores, scorer.score(words))
    return scores, selection.reasons == Reason.SCORED


def _found(law: ScoreLaw, texts: list[Scored], n: int, alpha: float) -> float:
    """Share of texts whose first n pairs reach alpha, of those with as many."""
    sums = np.array([scores[:n].sum() for scores, _ in texts if len(scores) >= n])
    logs = log_tails(law, sums, np.full(len(sums), n))
    return float((logs <= math.log(alpha)).mean())


def _found_by_tokens(law: ScoreLaw, texts: list[Scored], n: int, alpha: float) -> float:
    counts = np.array([mask[:n].sum() for _, mask in texts])
    pairs = zip(texts, counts, strict=True)
    sums = np.array([scores[:count].sum() for (scores, _), count in pairs])
    return float((log_tails(law, sums, counts) <= math.log(alpha)).mean())


def _stops(law: ScoreLaw, texts: list[Scored], alpha: float) -> float:
    """Mean stopping time of the mixture over twelve tilts; texts that never stop count whole."""
    tilts = _TILTS / math.sqrt(law.variance)
    rates = law.cumulants(tilts).value
    ends = []
    for scores, _ in texts:
        n = np.arange(1, len(scores) + 1)
        logs = tilts[:, None] * np.cumsum(scores) - rates[:, None] * n
        reached = np.logaddexp.reduce(logs, axis=0) - math.log(12) >= math.log(1 / alpha)
        ends.append(int(np.argmax(reached)) + 1 if reached.any() else len(scores))
    return float(np.mean(ends))


def _request(
    config: WatermarkConfig, pilot: TextPilot | None, alpha: float, power: float, scorer: Scorer
) -> PowerRequest:
    return PowerRequest(
        config, "direct", alpha, power, 1.0, MODEL_ENTROPY, 100, 10_000, pilot, scorer
    )


def _case(
    config: WatermarkConfig, scorer: Scorer, texts: list[Scored], goal: Goal, seed: int
) -> dict[str, Any]:
    """Predict from half, achieve on the other half; on average over random halves."""
    rng, rows = np.random.default_rng(seed), []
    law, (alpha, power) = scorer.law, goal
    for _split in range(_SPLITS):
        order = rng.permutation(len(texts))
        half = [texts[i] for i in order[: len(texts) // 2]]
        other = [texts[i] for i in order[len(texts) // 2 :]]
        pilot = pilot_of_scores(scorer, [s for s, _ in half], [m for _, m in half], "half")
        plan = plan_power(_request(config, pilot, alpha, power, scorer))
        n, tokens, normal = plan.pairs.value, plan.tokens.value, plan.first_order
        if n is None or tokens is None or normal is None:
            raise click.ClickException("the pilot carries no signal")
        rows.append(
            {
                "n_scored": n,
                "n_scored_low": plan.pairs.low,
                "n_scored_high": plan.pairs.high,
                "n_tokens": tokens,
                "achieved": _found(law, other, n, alpha),
                "achieved_at_tokens": _found_by_tokens(law, other, tokens, alpha),
                "first_order_n_scored": normal,
                "achieved_at_first_order": _found(law, other, math.ceil(normal), alpha),
                "expected_stopping": plan.stopping or math.nan,
                "mean_stopping": _stops(law, other, alpha),
            }
        )
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {"alpha": alpha, "power": power, "splits": _SPLITS, **mean}


def _from_entropy(
    config: WatermarkConfig, scorer: Scorer, texts: list[Scored], goal: Goal
) -> dict[str, Any]:
    """Predict from the entropy constant alone, achieve on all texts."""
    alpha, power = goal
    made_up = pilot_of_entropy(config.scheme, MODEL_ENTROPY, scorer=scorer)
    plan = plan_power(_request(config, None, alpha, power, scorer))
    n = plan.pairs.value or 0
    return {
        "alpha": alpha,
        "power": power,
        "mean_score": made_up.mean,
        "n_scored": n,
        "n_tokens": plan.tokens.value,
        "achieved": _found(scorer.law, texts, n, alpha),
    }


def _measure(name: str, score: str, n_texts: int, seed: int) -> dict[str, Any]:
    config, texts = preset(name), marked_texts(name, n_texts=n_texts)
    scorer = choose_scorer(score, config.scheme, "direct")
    scored = [_scored(config, scorer, text, 1.0, i) for i, text in enumerate(texts)]
    lengths = (50, 100, 200, 350, 500)
    result: dict[str, Any] = {
        "n_texts": len(texts),
        "mean_score": float(np.concatenate([s for s, _ in scored]).mean()),
        "mean_surprise": -float(np.mean([text.log_probs.mean() for text in texts])),
        "scored_by_length": {n: float(np.mean([m[:n].sum() for _, m in scored])) for n in lengths},
    }
    for left in _LEFT:
        diluted = [_scored(config, scorer, text, left, i) for i, text in enumerate(texts)]
        cases = _LEVELS if left == 1 else _LEVELS[2:3]
        result[f"marked_share_{left:g}"] = [
            _case(config, scorer, diluted, goal, seed) for goal in cases
        ]
    result["from_entropy"] = [_from_entropy(config, scorer, scored, goal) for goal in _LEVELS]
    return result


def _weak_signal(name: str, effect: float, alpha: float, power: float) -> dict[str, Any]:
    """The normal formula against the exact threshold, for a tilt of a preset's null law."""
    law = preset(name).scheme.law
    alternative = Alternative.shifted(law, effect)
    normal = math.ceil(first_order(effect, alpha=alpha, power=power))
    return {
        "preset": name,
        "effect": effect,
        "n_scored": pairs_needed(law, lambda n: alternative, alpha=alpha, power=power),
        "first_order_n_scored": normal,
        "power_at_first_order": power_of_text(law, alternative, normal, alpha),
    }


def _print(name: str, found: dict[str, Any]) -> None:
    for left in _LEFT:
        for case in found[f"marked_share_{left:g}"]:
            click.echo(
                f"{name}, share {left:g}, alpha {case['alpha']:g}: power {case['power']:g} "
                f"predicted at {case['n_scored']:.1f} pairs, {case['n_tokens']:.1f} tokens; "
                f"achieved {case['achieved']:.3f} and {case['achieved_at_tokens']:.3f}; "
                f"normal formula {case['first_order_n_scored']:.1f} pairs, "
                f"{case['achieved_at_first_order']:.3f}; stops at {case['mean_stopping']:.1f} "
                f"({case['expected_stopping']:.1f} expected)"
            )
    for case in found["from_entropy"]:
        click.echo(
            f"{name} from entropy, alpha {case['alpha']:g}, power {case['power']:g}: "
            f"{case['n_scored']} pairs, achieved {case['achieved']:.3f}"
        )


@click.command()
@click.option("--texts", "n_texts", default=400, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the halves.")
def main(n_texts: int, seed: int) -> None:
    """Compare predicted with achieved power."""
    started = time.perf_counter()
    tilted = [
        _weak_signal(name, effect, 1e-6, 0.9)
        for name in ("default", "red-green", "tournament")
        for effect in (0.9, 0.3, 0.1, 0.03, 0.005)
    ]
    measured: dict[str, Any] = {"tilted_null": tilted}
    for name, score in (("default", "typical"), ("gumbel", "own")):
        measured[name] = {"score": score, **_measure(name, score, n_texts, seed)}
        _print(name, measured[name])
    measured["seconds"] = time.perf_counter() - started
    click.echo(f"wrote {write_result('power', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
