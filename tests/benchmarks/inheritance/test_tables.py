"""Tables: what was not measured stays empty, and controls stand beside the student."""

from __future__ import annotations

from typing import Any

from benchmarks.inheritance.tables import markdown


def _found(log10_p: float, z: float, **more: Any) -> dict[str, Any]:
    return {"log10_p": log10_p, "z": z, **more}


def _row(log10_p: float, z: float, **more: Any) -> dict[str, Any]:
    text = {"published": _found(-8.4, 5.8), "ours": _found(log10_p, z)}
    return {"text": text, "answers_until": None, **more}


def test_reports_and_logs_are_shown_of_all_that_have_them() -> None:
    logs = {
        "n_answers": 60,
        "n_others": 3,
        "ours, no reference": {"log10_p": -3.25, "lowest_log10_p": -36.1},
    }
    both = {
        "reported": {
            "ours, no reference": _found(-20.0, 9.0),
            "ours, public base": _found(-200.0, 30.0),
        },
        "counterfactuals": {
            "same-key": {**logs, "ours, public base": {"log10_p": -30.0, "lowest_log10_p": -36.1}}
        },
    }
    alone = {
        "reported": {"ours, no reference": _found(-0.2, -0.3)},
        "counterfactuals": {"same-key": logs},
    }
    rows = {"real, dual h=2": _row(-23.9, 10.0, **both), "real, null, x": _row(-0.3, 0.0, **alone)}
    lines = markdown({**rows, "real, share 1 %": _row(-0.1, 0.0)}, {}).splitlines()
    assert "| real, dual h=2 | -8.4 | -23.9 | -20.0 | -200.0 | 9.0 |" in lines
    assert "| real, null, x | -8.4 | -0.3 | -0.2 |  |  |" in lines
    assert "| real, dual h=2 | same-key | 60 | 3 | -3.2 | -30.0 | -36.1 |" in lines
    assert "| real, null, x | same-key | 60 | 3 | -3.2 |  | -36.1 |" in lines
    assert sum(line.startswith("| real, share 1 %") for line in lines) == 1
