"""Make what the benchmark needs, test every row, write the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.stats import binomtest, kstest

from benchmarks.inheritance.costing import cost
from benchmarks.inheritance.grid import ROWS
from benchmarks.inheritance.lessons import VERSION
from benchmarks.inheritance.measuring import Bench
from benchmarks.inheritance.planning import growth, planned_answers
from benchmarks.inheritance.stages import Stages
from benchmarks.inheritance.tiers import TIERS
from benchmarks.inheritance.traps import measure_traps
from benchmarks.record import write_result

_LEVELS = (1e-2, 1e-3, 1e-4)
_NULLS = ("text_fresh_keys", "weights_fresh_keys", "reported_fresh_keys")


def _nulls(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Pool the p-values of innocent models under fresh keys, method by method."""
    found: dict[str, Any] = {}
    for access in _NULLS:
        innocent = [row[access] for row in rows.values() if access in row]
        for method in dict.fromkeys(name for row in innocent for name in row):
            tested = [row[method] for row in innocent if method in row]
            p = np.concatenate(tested)
            found[f"{access.split('_')[0]}, {method}"] = {
                "n_models": len(tested),
                "n_p_values": len(p),
                "uniformity_p_value": float(kstest(p, "uniform").pvalue),
                "smallest": float(p.min()),
                "levels": [
                    {
                        "alpha": alpha,
                        "hits": (hits := int((p <= alpha).sum())),
                        "binomial_p_value": float(binomtest(hits, len(p), alpha).pvalue),
                    }
                    for alpha in _LEVELS
                ],
            }
    return found


def _without_fresh_keys(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _NULLS}


def _traps(bench: Bench, tier: str) -> dict[str, Any]:
    return measure_traps(bench) if TIERS[tier].has_traps else {}


@click.command()
@click.option("--output", default="inheritance-run", type=click.Path(path_type=Path))
@click.option(
    "--tier",
    type=click.Choice(list(TIERS)),
    default="full",
    show_default=True,
    help="Every row, or a fixed few for 90 minutes on two cores.",
)
@click.option("--family", type=click.Choice(["small", "real"]), help="Only these students.")
@click.option("--row", "names", multiple=True, type=click.Choice(list(ROWS)), help="Only these.")
@click.option("--summary", is_flag=True, help="Write the results of what is there; make nothing.")
def main(
    output: Path, tier: str, family: str | None, names: tuple[str, ...], summary: bool
) -> None:
    """Run the benchmark in a folder; a stopped run goes on where it was."""
    bench = Bench(Stages(output), TIERS[tier])
    wanted = names or [n for n in TIERS[tier].rows if family in (None, ROWS[n].family)]
    if not summary:
        bench.measured_base()
        for name in wanted:
            bench.measured(name)
            click.echo(f"           measured {name}")
        _traps(bench, tier)
    rows = {name: bench.measured(name) for name in wanted if bench.has_measured(name)}
    for name, row in rows.items():
        if row["marked_share"]:
            row["planned"] = planned_answers(ROWS[name].tested, row)
            row["growth"] = growth(ROWS[name].tested, bench.tokenizer, bench.answers(name))
    rows["base"] = bench.measured_base()
    seconds = bench.stages.seconds()
    measured = {
        "version": VERSION,
        "tier": tier,
        "seconds": seconds,
        "tiers": {name: cost(of_name, seconds) for name, of_name in TIERS.items()},
        "rows": {name: _without_fresh_keys(row) for name, row in rows.items()},
        "nulls": _nulls(rows),
        "traps": _traps(bench, tier),
    }
    # What a part of the rows gave does not take the place of the whole.
    case = None if tier == "full" else tier
    click.echo(f"wrote {write_result('inheritance', seed=0, measured=measured, case=case)}")


if __name__ == "__main__":
    main()
