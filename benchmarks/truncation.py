"""What does it cost to find where top-k and top-p cut, beside vLLM's own way on a processor?

A drawing scheme truncates before it draws, and the engine truncates once more what is left. The
sum of the two is compared with the engine's truncation alone.
"""

from __future__ import annotations

import json
import subprocess

import click

from benchmarks.record import write_result
from benchmarks.vllm_server import PYTHON, engine_environment

CUTS = {"top-p 0.9": (0, 0.9), "top-k 50": (50, 1.0), "top-k 50 and top-p 0.9": (50, 0.9)}


@click.command()
@click.option("--rows", default=64, show_default=True)
@click.option("--vocabularies", default="49152,128256", show_default=True)
@click.option("--repeats", default=7, show_default=True)
def main(rows: int, vocabularies: str, repeats: int) -> None:
    """Time both on one thread, in vLLM's environment."""
    request = {
        "rows": rows,
        "vocabularies": [int(size) for size in vocabularies.split(",")],
        "cuts": CUTS,
        "repeats": repeats,
    }
    done = subprocess.run(
        [PYTHON, "-m", "benchmarks.truncation_engine"],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        text=True,
        env={**engine_environment(None), "NUMBA_NUM_THREADS": "1"},
        check=True,
    )
    measured = {"rows": rows, "milliseconds": json.loads(done.stdout.splitlines()[-1])}
    click.echo(json.dumps(measured, indent=2))
    click.echo(f"wrote {write_result('truncation', seed=0, measured=measured)}")


if __name__ == "__main__":
    main()
