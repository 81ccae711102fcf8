"""How soon does a sequential test stop? Every calibrator on marked text of the real model.

- Direct text: scored tokens until E >= 10^6, for a quarter, half and three quarters of the texts,
  each under its own key; beside them the length that a fixed-sample exact test looked at *once*
  must have for as many texts to reach p <= 10^-6. That test has to know the length beforehand.
- Weak signals: the score tilted by 0.05 and 0.02 standard deviations, against the first-order
  2 ln(1/alpha) / eps^2; and real words diluted by uniform ones to the same mean shift.
- Regret: ln E of the tilts' mixture against the best single tilt, chosen afterwards.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks.marked_texts import N_TEXTS, N_TOKENS, marked_texts
from benchmarks.record import write_result
from detect.scoring.scores import Reason, select_pairs
from detect.sequential.calibrators import (
    BetaMixture,
    Calibrator,
    Known,
    Layers,
    Likelihood,
    Mixture,
    Spectra,
    default_calibrator,
    tilts_for,
)
from detect.sequential.eprocess import expected_stop, log_e_path
from detect.tails.nulls import log_tails
from watermark.config import PRESETS, WatermarkConfig
from watermark.prf import Prf
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.laws import Exponential
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament

ALPHA = 1e-6
QUARTERS = (0.25, 0.5, 0.75)
# Drawn anew where they are not kept: fewer and shorter than those that other benchmarks share.
FEW = {"red-green": (60, 400), "tournament": (60, 250)}
_BLOCK = 50


class Text(NamedTuple):
    """Words of the scored pairs of one text, and what a reference model says of them."""

    words: np.ndarray
    log_probs: np.ndarray


def _texts(name: str, n_texts: int, n_tokens: int) -> list[Text]:
    config: WatermarkConfig = PRESETS[name]
    out = []
    for text in marked_texts(name, n_texts=n_texts, n_tokens=n_tokens):
        selection = select_pairs(
            text.token_ids,
            config.context_width,
            prompt_ids=text.prompt_ids,
            drop_repeated_contexts=True,
        )
        prf = Prf.from_key(text.key)
        hashes = prf.context_hashes(np.ascontiguousarray(selection.contexts))
        streams = range(config.scheme.n_streams)
        words = np.stack([prf.words(hashes, selection.tokens, s) for s in streams])
        out.append(Text(words, text.log_probs[selection.reasons == Reason.SCORED]))
    return out


def _calibrators(scheme: Scheme) -> dict[str, Calibrator]:
    found: dict[str, Calibrator] = {"default": default_calibrator(scheme)}
    found["tilts"] = tilts_for(scheme)
    match scheme:
        case Gumbel() | DualGumbel():
            alpha = scheme.alpha if isinstance(scheme, DualGumbel) else 0.0
            found |= {
                "spectra": Spectra(alpha),
                **{f"h_{d:g}": Spectra(alpha, (1 - d,)) for d in (0.01, 0.1, 0.5, 0.9, 0.99)},
                "likelihood ratio": Likelihood(alpha),
            }
        case RedGreen():
            found["beta"] = BetaMixture(scheme)
            found["tilts + beta"] = Mixture((tilts_for(scheme), BetaMixture(scheme)))
        case Tournament():
            found["layers"] = Layers(scheme.n_layers)
    return found


def _quartiles(stops: np.ndarray) -> dict[str, Any]:
    at = [float(np.quantile(stops, q, method="inverted_cdf")) for q in QUARTERS]
    return {
        "quartiles": [x if math.isfinite(x) else None for x in at],
        "reached": float(np.isfinite(stops).mean()),
    }


def _first(crossed: np.ndarray) -> float:
    return float(crossed.argmax()) + 1 if crossed.any() else math.inf


def _stop(calibrator: Calibrator, text: Text) -> float:
    path = log_e_path(calibrator, text.words, Known(None, text.log_probs))
    return _first(path >= -math.log(ALPHA))


def _fixed_sample(scheme: Scheme, texts: list[Text]) -> list[int | None]:
    """The lengths at which 25, 50 and 75 % of the texts have p <= alpha, looked at once."""
    longest = max(t.words.shape[1] for t in texts)
    reached = np.zeros((len(texts), longest), bool)
    for row, text in zip(reached, texts, strict=True):
        sums = np.cumsum(scheme.score(text.words))
        hit = log_tails(scheme.law, sums, np.arange(1, len(sums) + 1)) <= math.log(ALPHA)
        row[: len(hit)], row[len(hit) :] = hit, hit[-1]
    shares = reached.mean(axis=0)
    return [int(np.argmax(shares >= q)) + 1 if (shares >= q).any() else None for q in QUARTERS]


def _direct(scheme: Scheme, texts: list[Text]) -> dict[str, Any]:
    stops = {
        label: np.array([_stop(calibrator, text) for text in texts])
        for label, calibrator in _calibrators(scheme).items()
    }
    return {
        "texts": len(texts),
        "mean_scored": float(np.mean([t.words.shape[1] for t in texts])),
        "fixed_sample_once": _fixed_sample(scheme, texts),
        **{label: _quartiles(found) for label, found in stops.items()},
    }


def _diluted(
    scheme: Scheme, texts: list[Text], effect: float, runs: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Real words among uniform ones, in the share that gives the effect."""
    pool = np.concatenate([t.words for t in texts], axis=1)
    shift = (scheme.score(pool).mean() - scheme.law.mean) / math.sqrt(scheme.law.variance)
    n = math.ceil(2.5 * expected_stop(effect, ALPHA))
    calibrators = {k: c for k, c in _calibrators(scheme).items() if k != "likelihood ratio"}
    stops: dict[str, list[float]] = {label: [] for label in calibrators}
    for _ in range(runs):
        words = rng.integers(0, 1 << 32, (scheme.n_streams, n), np.uint32, False)
        inherited = np.flatnonzero(rng.random(n) < effect / shift)
        words[:, inherited] = pool[:, rng.integers(0, pool.shape[1], len(inherited))]
        for label, calibrator in calibrators.items():
            stops[label].append(_first(log_e_path(calibrator, words) >= -math.log(ALPHA)))
    return {
        "effect": effect,
        "runs": runs,
        "first_order": expected_stop(effect, ALPHA),
        **{label: _quartiles(np.array(found)) for label, found in stops.items()},
    }


def _tilted(effect: float, runs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Exponential scores with mean 1 + effect; looked at after every 50, whose sum is a gamma."""
    calibrator = tilts_for(Gumbel())
    t = np.array(calibrator.tilts)
    blocks = math.ceil(4 * expected_stop(effect, ALPHA) / _BLOCK)
    counts = _BLOCK * np.arange(1, blocks + 1)
    stops, regrets = [], []
    for _ in range(runs):
        sums = np.cumsum((1 + effect) * rng.gamma(_BLOCK, size=blocks))
        log_e = calibrator.log_e(t * sums[:, None] + counts[:, None] * np.log1p(-t), counts)
        stops.append(_first(log_e >= -math.log(ALPHA)) * _BLOCK)
        end = int(min(stops[-1] // _BLOCK, blocks)) - 1 if math.isfinite(stops[-1]) else blocks - 1
        regrets.append(_best_tilt(sums[end], counts[end]) - log_e[end])
    found = np.array(stops)
    return {
        "effect": effect,
        "runs": runs,
        "first_order": expected_stop(effect, ALPHA),
        "mean_stop": float(found[np.isfinite(found)].mean()),
        "mean_over_first_order": float(
            found[np.isfinite(found)].mean() / expected_stop(effect, ALPHA)
        ),
        "mean_regret_nats": float(np.mean(regrets)),
        **_quartiles(found),
    }


def _best_tilt(total: float, n: int) -> float:
    """Max over t in [0, 1) of t S + n ln(1 - t)."""
    t = max(1 - n / total, 0.0)
    return t * total + n * math.log1p(-t)


def _direct_regret(scheme: Scheme, texts: list[Text]) -> float:
    """Mean regret of the tilts on whole texts, in nats."""
    calibrator = tilts_for(scheme)
    regrets = [
        _best_tilt(float(scheme.score(t.words).sum()), t.words.shape[1])
        - float(log_e_path(calibrator, t.words)[-1])
        for t in texts
    ]
    return float(np.mean(regrets))


def _show(label: str, found: dict[str, Any]) -> None:
    for name, value in found.items():
        if name == "fixed_sample_once":
            click.echo(f"{label}  fixed sample, one look: {value}")
        elif isinstance(value, dict) and "quartiles" in value:
            click.echo(f"{label}  {name}: {value['quartiles']}, reached {value['reached']:.3f}")


@click.command()
@click.option("--runs", default=40, show_default=True, help="Of each diluted signal.")
@click.option("--seed", default=0, show_default=True)
def main(runs: int, seed: int) -> None:
    """Measure stopping times."""
    rng = np.random.default_rng(seed)
    measured: dict[str, Any] = {"alpha": ALPHA, "quarters": QUARTERS}
    for name in ("default", "gumbel", *FEW):
        scheme = PRESETS[name].scheme
        texts = _texts(name, *FEW.get(name, (N_TEXTS, N_TOKENS)))
        found: dict[str, Any] = {"direct": _direct(scheme, texts)}
        _show(f"{name} direct", found["direct"])
        if isinstance(scheme.law, Exponential):
            found["regret_nats_on_whole_texts"] = _direct_regret(scheme, texts)
        found["diluted"] = [_diluted(scheme, texts, 0.05, runs, rng)]
        if name in ("default", "gumbel"):
            found["diluted"].append(_diluted(scheme, texts, 0.02, runs // 4, rng))
        for weak in found["diluted"]:
            _show(
                f"{name} diluted to {weak['effect']} (first order {weak['first_order']:.0f})", weak
            )
        measured[name] = found
    measured["tilted"] = [_tilted(effect, 400, rng) for effect in (0.25, 0.05, 0.02)]
    for row in measured["tilted"]:
        click.echo(
            f"tilted by {row['effect']}: mean stop {row['mean_stop']:.0f}, first order "
            f"{row['first_order']:.0f}, regret {row['mean_regret_nats']:.2f} nats"
        )
    click.echo(f"wrote {write_result('stopping_time', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
