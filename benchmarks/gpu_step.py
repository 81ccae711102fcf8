"""What does one decoding step cost on an accelerator, and are the kernels' bits right there?

First the kernels are compared with the frozen vectors, with torch and with the schemes' own
definitions, run where a wait for the accelerator is an error, and captured in a CUDA graph. Then
each scheme's step (hashes, words, mark) is timed beside stock sampling (softmax and multinomial)
of the same logits, a plain copy of them, a read of them, and our own tensor operations: launched
one by one (the median of runs with a cold cache) and as CUDA graph replays. Every variant of how
the work is shared is printed. A case that fails is reported, and the others go on.
"""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import click
import torch
import triton
from torch import Tensor
from triton.testing import do_bench

from benchmarks.gpu_batches import LAYERS, OTHER, RED_GREEN, WIDE, Step
from benchmarks.gpu_checks import checks
from benchmarks.record import write_result
from watermark.kernels.triton_tilt import TiltTiling, tilt_green
from watermark.kernels.triton_tournament import TournamentTiling, play_tournament
from watermark.kernels.triton_winners import Tiling, gumbel_winners
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.tournament import Tournament

BATCHES = (256, 32, 1)
_WORKERS, _LONGEST = 8, 60

WINNER_TILINGS = {
    256: (
        Tiling(1024, 8), Tiling(1024, 16), Tiling(1024, 32), Tiling(512, 16), Tiling(512, 32),
        Tiling(2048, 8), Tiling(2048, 8, 8), Tiling(512, 32, 2), Tiling(1024, 8, 4, True),
        Tiling(512, 16, 4, True),
    ),
    32: (Tiling(1024, 1), Tiling(1024, 2), Tiling(1024, 4), Tiling(512, 4), Tiling(512, 8)),
    1: (Tiling(1024, 1), Tiling(512, 1), Tiling(512, 2), Tiling(2048, 1, 8)),
}  # fmt: skip
TILT_TILINGS = (
    TiltTiling(1024, 4), TiltTiling(2048, 4), TiltTiling(2048, 8), TiltTiling(4096, 8),
    TiltTiling(2048, 4, True), TiltTiling(512, 2),
)  # fmt: skip
TOURNAMENT_TILINGS = {
    256: (
        TournamentTiling(512, 16), TournamentTiling(512, 64), TournamentTiling(256, 32, 2),
    ),
    32: (TournamentTiling(512, 4), TournamentTiling(512, 16)),
    1: (TournamentTiling(512, 1), TournamentTiling(512, 4)),
}  # fmt: skip


class Report:
    """What was found; printed at once, so that a run that is cut short has not been for nothing."""

    def __init__(self, seconds: float) -> None:
        self.measured: dict[str, Any] = {"checks": {}, "times": {}, "failed": {}, "skipped": []}
        self._started, self._seconds = time.perf_counter(), seconds

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Note a failure and go on."""
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            self.measured["failed"][name] = f"{type(error).__name__}: {error}"[:400]
            click.echo(f"FAILED {name}")
            click.echo(traceback.format_exc(limit=-3)[-1500:])
        click.echo(f"  [{name}: {time.perf_counter() - started:.1f} s]")

    @property
    def is_late(self) -> bool:
        """True when the time that was given is used up."""
        return time.perf_counter() - self._started > self._seconds

    def save(self) -> None:
        """Write what there is so far."""
        self.measured["seconds"] = round(time.perf_counter() - self._started, 1)
        write_result("gpu_step", seed=0, measured=self.measured)


def _checks(report: Report) -> None:
    for name, job in checks().items():
        with report.part(f"check {name}"):
            report.measured["checks"][name] = job()
            click.echo(f"right: {name}: {report.measured['checks'][name]}")


def _launched(work: Callable[[], object]) -> float:
    """Microseconds, the median of runs that start with a cold cache."""
    return 1000 * float(do_bench(work, warmup=5, rep=25, return_mode="median"))


def _replayed(work: Callable[[], object], repeats: int = 10, runs: int = 7) -> float:
    """Microseconds of one of ten in a CUDA graph, the median of seven replays."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            work()
    graph.replay()
    times = []
    for _ in range(runs):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1000 / repeats)
    return float(median(times))


def _stock(logits: Tensor) -> Callable[[], Tensor]:
    def draw() -> Tensor:
        return torch.multinomial(logits.softmax(dim=-1, dtype=torch.float32), 1)

    return draw


def _yardsticks(step: Step) -> dict[str, Callable[[], object]]:
    logits, copy = step.logits, torch.empty_like(step.logits)
    return {
        "stock": _stock(logits),
        "copy": lambda: copy.copy_(logits),
        "read": lambda: logits.amax(dim=1),
    }


def _variants(step: Step, n: int) -> dict[str, Callable[[], object]]:
    """Every way to share the work, as a whole step; red-green and tournament change a copy."""
    logits, scratch, least = step.logits, step.logits.clone(), step.least()
    work: dict[str, Callable[[], object]] = {}
    for tiling in WINNER_TILINGS[n]:
        name = f"gumbel {tuple(tiling)}"
        work[name] = lambda t=tiling: gumbel_winners(  # type: ignore[misc]
            step.hashes(), step.streams, logits, tiling=t
        )
    work["gumbel with cut-off"] = lambda: gumbel_winners(
        step.hashes(), step.streams, logits, None, least
    )
    work["gumbel forced"] = lambda: gumbel_winners(
        step.hashes(), step.streams, scratch, forces=True
    )
    for tilt in TILT_TILINGS if n > 1 else TILT_TILINGS[:2]:
        work[f"red-green {tuple(tilt)}"] = lambda t=tilt: tilt_green(  # type: ignore[misc]
            step.hashes(), step.streams, scratch, RED_GREEN.first_red, 1e-3, tiling=t
        )
    for game in TOURNAMENT_TILINGS[n]:
        work[f"tournament {tuple(game)}"] = lambda t=game: play_tournament(  # type: ignore[misc]
            step.hashes(), step.streams, scratch, LAYERS, tiling=t
        )
    return work


def _dense(step: Step) -> dict[str, Callable[[], object]]:
    """What `MarkedStep.mark_densely` does without kernels of its own."""
    schemes = {"gumbel": Gumbel(), "red-green": RED_GREEN, "tournament": Tournament(LAYERS)}
    return {
        f"torch {name}": lambda s=scheme: s.embed(  # type: ignore[misc]
            step.logits.float(), step.torch_words(step.logits)
        )
        for name, scheme in schemes.items()
    }


class Case(NamedTuple):
    """What is timed: a batch, and whether with every variant or only the first of a scheme."""

    n: int
    vocabulary: int
    dtype: torch.dtype
    every: bool

    @property
    def name(self) -> str:
        """Its name in the result."""
        return f"{self.n} x {self.vocabulary} {str(self.dtype).removeprefix('torch.')}"


def _cases() -> list[Case]:
    fp32, bf16 = torch.float32, torch.bfloat16
    return [
        Case(BATCHES[0], WIDE, fp32, True),
        Case(BATCHES[1], WIDE, fp32, True),
        Case(BATCHES[2], WIDE, fp32, True),
        Case(BATCHES[0], WIDE, bf16, True),
        *(Case(n, OTHER, fp32, False) for n in BATCHES),
        *(Case(n, WIDE, bf16, False) for n in BATCHES[1:]),
        *(Case(n, OTHER, bf16, False) for n in BATCHES),
    ]


def _work(case: Case) -> dict[str, Callable[[], object]]:
    step = Step(case.n, case.vocabulary, case.dtype, 7)
    work, variants = _yardsticks(step), _variants(step, case.n)
    if case.every:
        return work | variants
    for scheme in ("gumbel (", "gumbel with", "gumbel forced", "red-green", "tournament"):
        name = next(name for name in variants if name.startswith(scheme))
        work[name] = variants[name]
    return work


def _time_case(report: Report, case: Case) -> None:
    found: dict[str, Any] = {}
    report.measured["times"][case.name] = found
    for name, job in _work(case).items():
        if report.is_late:
            report.measured["skipped"].append(f"{case.name}: {name}")
            continue
        with report.part(f"{case.name}: {name}"):
            found[name] = {"launched_us": _launched(job)}
            found[name]["replayed_us"] = _replayed(job)
            for yardstick in ("stock", "copy"):
                its = found.get(yardstick, {}).get("replayed_us")
                if its is not None:
                    found[name][f"replayed_to_{yardstick}"] = found[name]["replayed_us"] / its
            show = {k: round(v, 2) for k, v in found[name].items()}
            click.echo(f"{case.name:24s} {name:32s} {show}")


def _time_dense(report: Report, case: Case) -> None:
    step = Step(case.n, case.vocabulary, case.dtype, 7)
    found = report.measured["times"].setdefault(case.name, {})
    for name, job in _dense(step).items():
        if report.is_late:
            report.measured["skipped"].append(name)
            continue
        with report.part(f"{case.name}: {name}"):
            found[name] = {"launched_us": 1000 * float(do_bench(job, warmup=1, rep=1))}
            click.echo(f"{case.name} {name} {found[name]}")


def _best(times: dict[str, Any]) -> dict[str, Any]:
    """Find the fastest variant of each scheme in each case."""
    best: dict[str, Any] = {}
    for case, found in times.items():
        for scheme in ("gumbel (", "red-green", "tournament"):
            mine = {
                k: v["replayed_us"]
                for k, v in found.items()
                if k.startswith(scheme) and "replayed_us" in v
            }
            if mine:
                name = min(mine, key=lambda k: mine[k])
                best.setdefault(case, {})[name] = found[name]
    return best


def _accelerator() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
    }


def _warm(worker: int) -> None:
    """Compile what this worker's share of the work needs; what fails will fail again later."""
    jobs: list[Callable[[], object]] = list(checks().values())
    for case in _cases():
        work = _work(case)
        jobs += list(work.values())
        if worker == 0:
            click.echo(f"{case.name}: {len(work)} kinds of work")
    for job in jobs[worker::_WORKERS]:
        try:
            job()
        except Exception as error:
            click.echo(f"worker {worker}: {type(error).__name__}")


def _compile_all() -> None:
    """Fill the compiler's cache by several processes: one would take minutes."""
    command = [sys.executable, "-m", "benchmarks.gpu_step", "--worker"]
    workers = [subprocess.Popen([*command, str(worker)]) for worker in range(_WORKERS)]
    for worker in workers:
        try:
            worker.wait(timeout=_LONGEST)
        except subprocess.TimeoutExpired:
            worker.kill()
            click.echo("a compiling process was stopped: it took too long")


@click.command()
@click.option("--seconds", default=95.0, show_default=True, help="no new case after so long")
@click.option("--worker", type=int, hidden=True)
def main(seconds: float, worker: int | None) -> None:
    """Compile, check, then time; the result is written after every case."""
    if worker is not None:
        _warm(worker)
        return
    report = Report(seconds)
    report.measured["accelerator"] = _accelerator()
    click.echo(report.measured["accelerator"])
    with report.part("compile"):
        _compile_all()
    _checks(report)
    report.save()
    for place, case in enumerate(_cases()):
        with report.part(f"case {case.name}"):
            _time_case(report, case)
        torch.cuda.empty_cache()
        if place == 0:
            with report.part("torch"):
                _time_dense(report, case)
            torch.cuda.empty_cache()
        report.save()
    report.measured["best"] = _best(report.measured["times"])
    report.save()
    for name, found in report.measured["best"].items():
        for variant, numbers in found.items():
            click.echo(f"BEST {name:24s} {variant:32s} {numbers}")
    click.echo(f"failed: {report.measured['failed']}")
    click.echo(f"skipped: {report.measured['skipped']}")
    click.echo(f"seconds: {report.measured['seconds']}")


if __name__ == "__main__":
    main()
