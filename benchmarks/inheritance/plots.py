"""Pictures of the benchmark's results: by student, by share, and as answers come in."""

from __future__ import annotations

import math
from typing import Any, Final

from matplotlib.axes import Axes
from scipy.stats import norm

__all__ = ["draw_growth", "draw_share", "draw_text", "draw_weights"]

_TEXT: Final = ("published", "ours, contexts counted", "ours, contexts counted, public base")
_WEIGHTS: Final = ("published (argmax)", "ours, no reference", "ours, clean base")
_SHARES: Final = {"1 %": 0.01, "5 %": 0.05, "10 %": 0.1, "50 %": 0.5}
# Lines of the picture by share: label, family, access, method.
_LINES: Final = (
    ("own tokenizer, by weights", "small", "weights", "ours, clean base"),
    ("own tokenizer, by text", "small", "text", "ours, contexts counted, public base"),
    ("own tokenizer, by text, published", "small", "text", "published"),
    ("teacher's, by weights", "real", "weights", "ours, clean base"),
    ("teacher's, by weights, published", "real", "weights", "published (argmax)"),
    ("teacher's, by text", "real", "text", "ours, contexts counted, public base"),
    ("teacher's, by text, published", "real", "text", "published"),
)
_LEVEL: Final = 6


def draw_text(axes: Axes, measured: dict[str, Any]) -> None:
    """Evidence by text, of every student and method."""
    _bars(axes, measured["rows"], "text", _TEXT)


def draw_weights(axes: Axes, measured: dict[str, Any]) -> None:
    """Evidence by open weights, of every student and method."""
    rows = {name: row for name, row in measured["rows"].items() if "weights" in row}
    _bars(axes, rows, "weights", _WEIGHTS)


def draw_share(axes: Axes, measured: dict[str, Any]) -> None:
    """Evidence against the marked share of what a student learned."""
    rows = measured["rows"]
    for number, (label, family, access, method) in enumerate(_LINES):
        named = {f"{family}, share {name}": share for name, share in _SHARES.items()}
        named[f"{family}, dual h=2"] = 1.0
        points = [
            (share, -rows[name][access][method]["log10_p"])
            for name, share in named.items()
            if name in rows and access in rows[name]
        ]
        style = "--" if method.startswith("published") else "-"
        axes.plot(
            *zip(*points, strict=True), style, marker="o", ms=3, color=f"C{number}", label=label
        )
    axes.axhline(_LEVEL, color="#444444", lw=0.8, ls=":")
    axes.set(xscale="log", xlabel="marked share of the training data", ylabel="-log10 p")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, None)
    axes.legend(fontsize=6)


def draw_growth(axes: Axes, measured: dict[str, Any]) -> None:
    """Evidence by text as answers come in, by the mean shift of the pairs so far."""
    for name, row in measured["rows"].items():
        growth = row.get("growth")
        if growth and max(growth["effect"]) > 0 and row["group"] in ("scheme and width", "share"):
            depths = [
                -norm.logsf(effect * n**0.5) / math.log(10)
                for n, effect in zip(growth["n_scored"], growth["effect"], strict=True)
            ]
            axes.plot(growth["n_scored"], depths, marker="o", ms=2, lw=1, label=name)
    axes.axhline(_LEVEL, color="#444444", lw=0.8, ls=":")
    axes.set(
        xscale="log", xlabel="scored pairs, in order of the answers", ylabel="-log10 p, normal"
    )
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, None)
    axes.legend(fontsize=5, ncols=2)


def _bars(axes: Axes, rows: dict[str, Any], access: str, methods: tuple[str, ...]) -> None:
    shown = [name for name in rows if ", null" not in name]
    height = 0.8 / len(methods)
    for number, method in enumerate(methods):
        places = [i + (number + 0.5) * height - 0.4 for i in range(len(shown))]
        depths = [-rows[name][access].get(method, {}).get("log10_p", 0.0) for name in shown]
        axes.barh(places, depths, height=height, color=f"C{number}", label=method)
    axes.axvline(_LEVEL, color="#444444", lw=0.8, ls=":")
    axes.set_yticks(range(len(shown)), shown, fontsize=6)
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlabel="-log10 p (dotted: 1e-6)", xlim=(0, None))
    axes.legend(fontsize=6)
