"""How likely are the tokens of a model's own text? What the typical score is made from."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from benchmarks.marked_texts import marked_texts
from benchmarks.record import write_result
from detect.scoring.alternatives import TYPICAL

EDGES = (0.1, 0.35, 0.75, 1.25, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5)


@click.command()
@click.option("--seed", default=0, show_default=True)
def main(seed: int) -> None:
    """Count the tokens of 800 texts by -ln p."""
    texts = [*marked_texts("default", seed=seed), *marked_texts("gumbel", seed=seed)]
    depths = -np.concatenate([text.log_probs for text in texts])
    bins = np.digitize(depths, EDGES)
    rows = [
        {
            "share": float((bins == k).mean()),
            "mean_probability": float(np.exp(-depths[bins == k].mean())),
        }
        for k in range(len(EDGES) + 1)
    ]
    measured: dict[str, Any] = {"n_tokens": len(depths), "edges_in_nats": EDGES, "bins": rows}
    for row, p, share in zip(rows, TYPICAL.probabilities, TYPICAL.shares, strict=True):
        click.echo(f"{row}; the score uses {share} of {p}")
    click.echo(f"wrote {write_result('token_depths', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
