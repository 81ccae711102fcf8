"""What does marking add to one decoding step on a processor, for us and for others?

Every kind runs in a process of its own, other systems in their own environments, on the same
random logits (float32, standard deviation 3): stock sampling (softmax and multinomial) and the
step in turns, and the median of the ratios of neighbours. Steps that draw a token themselves are
compared as they are; those that only change logits are what is added to stock sampling. The
slowest kinds get a smaller batch, and we do it again beside them: the same logits a row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click

from benchmarks.record import write_result

ROOT = Path(__file__).parents[1]


class Kind(NamedTuple):
    """A step: whose, which, in which environment (empty is ours), drawing the token or not."""

    kind: str
    name: str
    environment: str = ""
    draws: bool = False
    small: bool = False


KINDS = (
    Kind("ours", "gumbel", draws=True),
    Kind("ours", "default", draws=True),
    Kind("ours", "red-green"),
    Kind("ours", "tournament"),
    Kind("ours", "red-green", small=True),
    Kind("ours", "tournament", small=True),
    Kind("ours", "gumbel", draws=True, small=True),
    Kind("transformers KGW", "lefthash"),
    Kind("transformers KGW", "selfhash", small=True),
    Kind("transformers SynthID", "30 keys", small=True),
    Kind("synthid-text", "30 keys", "synthid_text", small=True),
    Kind("sbw", "lefthash", "sbw", small=True),
    Kind("sbw", "selfhash", "sbw", small=True),
    Kind("textseal", "gumbelmax", "textseal", draws=True, small=True),
    Kind("textseal", "greenlist", "textseal", draws=True, small=True),
)


def _ask(kind: Kind, request: dict[str, Any]) -> dict[str, Any]:
    python = Path(sys.executable)
    if kind.environment:
        python = ROOT / ".engines" / kind.environment / "bin" / "python"
    if not python.exists():
        return {"absent": "the environment is not built; run: make engines"}
    threads = str(request["threads"])
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    done = subprocess.run(
        [python, Path(__file__).with_name("decoding_step_worker.py")],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:300] if done.stderr else "killed"}
    reply: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return reply


def _summary(kind: Kind, batch: int, reply: dict[str, Any]) -> dict[str, Any]:
    head = {"batch": batch, "draws_the_token": kind.draws}
    if "pairs" not in reply:
        return head | reply
    pairs = reply["pairs"]
    return head | {
        "ratio_to_stock": median(step / stock for stock, step in pairs),
        "step_seconds": median(step for _, step in pairs),
        "stock_seconds": median(stock for stock, _ in pairs),
        "rounds": len(pairs),
        "extra_memory_in_copies_of_the_logits": reply["extra_bytes"] / reply["logits_bytes"],
    }


@click.command()
@click.option("--batch", default=64, show_default=True)
@click.option("--small-batch", default=4, show_default=True, help="for the slowest kinds")
@click.option("--vocabulary", default=128_256, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=9, show_default=True)
@click.option("--seconds", default=30.0, show_default=True, help="no new round after so long")
@click.option("--seed", default=0, show_default=True)
def main(
    batch: int, small_batch: int, vocabulary: int, threads: int, rounds: int, seconds: float,
    seed: int,
) -> None:  # fmt: skip
    """Time every kind."""
    measured: dict[str, Any] = {"vocabulary": vocabulary, "threads": threads, "steps": {}}
    for kind in KINDS:
        n = small_batch if kind.small else batch
        request = {
            "kind": kind.kind, "name": kind.name, "batch": n, "vocabulary": vocabulary,
            "threads": threads, "rounds": rounds, "seconds": seconds, "seed": seed,
        }  # fmt: skip
        found = _summary(kind, n, _ask(kind, request))
        measured["steps"][f"{kind.kind} {kind.name}, {n} rows"] = found
        click.echo(f"{kind.kind} {kind.name}, {n} rows: {found}")
    click.echo(f"wrote {write_result('decoding_step', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
