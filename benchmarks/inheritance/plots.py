"""Pictures of the benchmark's results: evidence of every student, by access and method."""

from __future__ import annotations

from typing import Any, Final

from matplotlib.axes import Axes

__all__ = ["draw_text", "draw_weights"]

_TEXT: Final = (
    "published",
    "ours",
    "ours, contexts counted",
    "ours, public base",
    "ours, contexts counted, public base",
)
_WEIGHTS: Final = ("published (argmax)", "ours, no reference", "ours, clean base")


def draw_text(axes: Axes, measured: dict[str, Any]) -> None:
    """Evidence by text, of every student and method."""
    _bars(axes, measured["rows"], "text", _TEXT)


def draw_weights(axes: Axes, measured: dict[str, Any]) -> None:
    """Evidence by open weights, of every student and method."""
    rows = {name: row for name, row in measured["rows"].items() if "weights" in row}
    _bars(axes, rows, "weights", _WEIGHTS)


def _bars(axes: Axes, rows: dict[str, Any], access: str, methods: tuple[str, ...]) -> None:
    shown = [name for name in rows if ", null " not in name]
    height = 0.8 / len(methods)
    for number, method in enumerate(methods):
        places = [i + (number + 0.5) * height - 0.4 for i in range(len(shown))]
        depths = [-rows[name][access].get(method, {}).get("log10_p", 0.0) for name in shown]
        axes.barh(places, depths, height=height, color=f"C{number}", label=method)
    axes.axvline(6, color="#444444", lw=0.8, ls=":")
    axes.set_yticks(range(len(shown)), shown, fontsize=6)
    axes.invert_yaxis()
    axes.set(xlabel="-log10 p (dotted: 1e-6)")
    axes.legend(fontsize=6)
