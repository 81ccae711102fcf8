"""Pictures of the committed results for the pages in docs/: `python -m benchmarks.plots`.

Needs matplotlib (`pip install -e '.[bench]'`). Reads benchmarks/results/*.json only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.inheritance.plots import draw_growth, draw_share, draw_text, draw_weights
from benchmarks.record import RESULTS

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
INK = "#444444"


def _measured(name: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return payload["measured"]  # type: ignore[no-any-return]


def _cases(name: str) -> dict[str, Any]:
    """Read a benchmark whose cases have a file each."""
    names = sorted(path.stem for path in (RESULTS / name).glob("*.json"))
    return {case: _measured(f"{name}/{case}") for case in names}


def validity(axes: Axes) -> None:
    """Rate of p <= alpha over alpha, one line for every preset and score."""
    measured = _cases("validity")
    names = list(measured)
    for preset, found in measured.items():
        for number, result in enumerate(found["tests"].values()):
            levels = [x["alpha"] for x in result["levels"]]
            ratios = [x["rate"] / x["alpha"] for x in result["levels"]]
            axes.plot(levels, ratios, ".-", lw=0.8, label=preset if number == 0 else None,
                      color=f"C{names.index(preset) % 10}")  # fmt: skip
            low = [x["low_999"] / x["alpha"] for x in result["levels"]]
            high = [x["high_999"] / x["alpha"] for x in result["levels"]]
            axes.fill_between(levels, low, high, color=INK, alpha=0.02, lw=0)
    axes.axhline(1.0, color=INK, lw=1)
    axes.set(xscale="log", yscale="log", xlabel="alpha", ylabel="share of p <= alpha, over alpha")
    axes.invert_xaxis()
    axes.legend(fontsize=7)


def two_moments(axes: Axes) -> None:
    """How many times too small a two-moment fit is, and what heirmark makes of it."""
    rows = _measured("far_tail")["two_moment_fit_of_two_keys"]
    for n in sorted({row["n"] for row in rows}):
        chosen = [row for row in rows if row["n"] == n]
        depth = [-row["log10_p_exact"] for row in chosen]
        axes.plot(depth, [r["fit_too_small_by"] for r in chosen], "o-",
                  label=f"two-moment gamma fit, n = {n}")  # fmt: skip
        axes.plot(depth, [1 / r["ours_off_by_factor"] for r in chosen], "x--",
                  label=f"heirmark, n = {n}")  # fmt: skip
    axes.axhline(1.0, color=INK, lw=1)
    axes.set(yscale="log", xlabel="-log10 of the exact p-value", ylabel="p printed too small by")
    axes.legend(fontsize=7)


def tokens_to_detection(axes: Axes) -> None:
    """Median tokens to p < 1e-6, with quartiles, by score."""
    labels, position = [], 0
    for case, scores in _cases("tokens_to_detection").items():
        for label, found in scores.items():
            if not isinstance(found, dict):
                continue
            median = found["median_tokens"]
            spread = [[median - found["quartile_1"]], [found["quartile_3"] - median]]
            axes.barh(position, median, xerr=spread, color="C0", ecolor=INK, height=0.7)
            labels.append(f"{case}: {label}")
            position += 1
    axes.set_yticks(range(len(labels)), labels, fontsize=6)
    axes.invert_yaxis()
    axes.set(xlabel="tokens of text until p < 1e-6 (median, quartiles)")


def inheritance_by_text(axes: Axes) -> None:
    """Evidence by text, of every student and method."""
    draw_text(axes, _measured("inheritance"))


def inheritance_by_weights(axes: Axes) -> None:
    """Evidence by open weights, of every student and method."""
    draw_weights(axes, _measured("inheritance"))


def inheritance_by_share(axes: Axes) -> None:
    """Evidence against the marked share of the training data."""
    draw_share(axes, _measured("inheritance"))


def inheritance_growth(axes: Axes) -> None:
    """Evidence by text as answers come in."""
    draw_growth(axes, _measured("inheritance"))


def _cost(grows: str, label: str) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        found = _measured("cost_growth")[grows]
        for name, row in found["series"].items():
            line = f"{name}: slope {row['slope']:.2f}"
            axes.plot(found["sizes"], row["seconds"], "o-", ms=3, lw=1, label=line)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="processor seconds, one thread")
        axes.legend(fontsize=7)

    draw.__doc__ = f"Cost against {label}."
    return draw


PLOTS: dict[str, Callable[[Axes], None]] = {
    "validity": validity,
    "two_moments": two_moments,
    "tokens_to_detection": tokens_to_detection,
    "inheritance_by_text": inheritance_by_text,
    "inheritance_by_weights": inheritance_by_weights,
    "inheritance_by_share": inheritance_by_share,
    "inheritance_growth": inheritance_growth,
    "cost_tokens": _cost("tokens", "tokens"),
    "cost_keys": _cost("keys", "keys searched"),
    "cost_vocabulary": _cost("vocabulary", "vocabulary"),
    "cost_width": _cost("width", "context width h"),
    "cost_layers": _cost("layers", "tournament layers"),
}
# Inches; pictures of many rows are taller.
SIZES = {
    "inheritance_by_text": (6.0, 8.0),
    "inheritance_by_weights": (6.0, 8.0),
    "inheritance_by_share": (6.0, 4.5),
    "inheritance_growth": (6.0, 4.5),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PLOTS)))
def main(names: tuple[str, ...]) -> None:
    """Draw the figures (NAMES; all by default)."""
    # Equal results give equal bytes.
    mpl.rcParams.update({"svg.hashsalt": "heirmark", "svg.fonttype": "none", "font.size": 8})
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name in names or tuple(PLOTS):
        figure, axes = plt.subplots(figsize=SIZES.get(name, (6, 3.6)), layout="constrained")
        PLOTS[name](axes)
        axes.grid(visible=True, lw=0.3)
        figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
        click.echo(f"wrote {FIGURES / f'{name}.svg'}")


if __name__ == "__main__":
    main()
