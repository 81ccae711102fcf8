"""What does one decoding step cost on an accelerator, and are the kernels' bits right there?

First the kernels are compared with the frozen vectors, with torch and with the schemes' own
definitions, run where a wait for the accelerator is an error, and captured in a CUDA graph. Then
each scheme's step (hashes, words, mark) is timed beside stock sampling (softmax and multinomial)
of the same logits, a plain copy of them, a read of them, and our own tensor operations: launched
one by one (the median of runs with a cold cache) and as CUDA graph replays. Every variant of how
the work is shared is printed. A case that fails is reported, and the others go on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import torch
import triton
from torch import Tensor
from triton.testing import do_bench

from benchmarks.record import write_result
from watermark.kernels import torch_prf, triton_prf
from watermark.kernels.triton_tilt import TiltTiling, tilt_green
from watermark.kernels.triton_tournament import TournamentTiling, play_tournament
from watermark.kernels.triton_winners import Tiling, gumbel_winners
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament

VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "prf_heirmark_1.json"
DEVICE = "cuda"
WIDE, OTHER = 151_936, 128_256
BATCHES = (256, 32, 1)
LAYERS = 30
RED_GREEN = RedGreen(0.25, 2.0)
_CUT = 12.0
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


class Step:
    """A batch: its logits and what its marks depend on."""

    def __init__(self, n: int, vocabulary: int, dtype: torch.dtype, seed: int, h: int = 2) -> None:
        g = torch.Generator(DEVICE).manual_seed(seed)
        self.logits = (torch.randn((n, vocabulary), generator=g, device=DEVICE) * 3).to(dtype)
        self.keys = torch.randint(-(2**62), 2**62, (n, 2), generator=g, device=DEVICE)
        self.contexts = torch.randint(0, vocabulary, (n, h), generator=g, device=DEVICE)
        self.streams = torch.randint(0, 2, (n,), generator=g, device=DEVICE)

    def hashes(self) -> Tensor:
        """Hash the contexts, as every step must."""
        return triton_prf.context_hashes(self.keys, self.contexts)

    def torch_words(self, logits: Tensor) -> Tensor:
        """Compute the words of the whole vocabulary by tensor operations."""
        hashes = torch_prf.context_hashes(self.keys[:, 0], self.keys[:, 1], self.contexts)
        ids = torch.arange(logits.shape[1], device=DEVICE).expand_as(logits)
        return torch_prf.words(hashes, ids, self.streams)

    def least(self) -> Tensor:
        """Return a cut-off that leaves what is likely."""
        return self.logits.float().amax(dim=1) - _CUT


def _check_words() -> str:
    frozen = json.loads(VECTORS.read_text(encoding="utf-8"))
    key = torch.tensor([[torch_prf.signed(int(k)) for k in frozen["sip_key"]]], device=DEVICE)
    for row in frozen["rows"]:
        context = torch.tensor([row["context"]], dtype=torch.int64, device=DEVICE).reshape(1, -1)
        found = triton_prf.words(
            triton_prf.context_hashes(key, context),
            torch.tensor([row["tokens"]], device=DEVICE),
            torch.tensor([row["stream"]], device=DEVICE),
        )
        assert found[0].tolist() == row["words"], row["context"]
    n = 0
    for h in (0, 1, 2, 3, 4, 7, 16):
        step = Step(37, WIDE, torch.float32, h, h)
        words = step.torch_words(step.logits)
        ids = torch.arange(WIDE, device=DEVICE).expand_as(words)
        assert torch.equal(triton_prf.words(step.hashes(), ids, step.streams), words), h
        n += words.numel()
    return f"frozen vectors, and {n} words of torch"


def _check_winners(dtype: torch.dtype) -> str:
    n = 0
    for seed, (vocabulary, spread) in enumerate(
        [(WIDE, 1.0), (WIDE, 0.02), (OTHER, 4.0), (50_257, 100.0), (1_003, 1.0)]
    ):
        step = Step(64, vocabulary, dtype, seed)
        logits = step.logits * spread
        logits[:16] = logits[:16].round()
        logits[16:32] += 3000
        hide = torch.rand(logits[32:48].shape, device=DEVICE) < 0.999
        hide[:, 7] = False
        logits[32:48] = logits[32:48].masked_fill(hide, -torch.inf)
        words = step.torch_words(logits)
        expected = Gumbel().embed(logits.float(), words).isfinite().int().argmax(dim=1)
        for tiling in (None, Tiling(1024, 8), Tiling(512, 16), Tiling(1024, 8, 4, True)):
            found = gumbel_winners(step.hashes(), step.streams, logits, tiling=tiling)
            wrong = int((found != expected).sum())
            assert not wrong, f"{wrong} of 64 winners differ: {vocabulary}, {spread}, {tiling}"
            n += 64
        least = logits.float().amax(dim=1) - 3.0
        cut = logits.float().masked_fill(logits.float() < least[:, None], -torch.inf)
        expected = Gumbel().embed(cut, words).isfinite().int().argmax(dim=1)
        found = gumbel_winners(step.hashes(), step.streams, logits, None, least)
        assert torch.equal(found, expected), "with a cut-off"
    _check_bad_rows(dtype)
    return f"{n} winners, and as many with a cut-off"


def _check_bad_rows(dtype: torch.dtype) -> None:
    step = Step(4, 5_000, dtype, 0)
    logits = torch.cat([step.logits, step.logits])
    logits[1, 3], logits[3, 3], logits[5] = torch.nan, torch.inf, -torch.inf
    rows = torch.tensor([1, 3, 5, 6], device=DEVICE)
    before = logits.clone()
    found = gumbel_winners(step.hashes(), step.streams, logits, rows, forces=True)
    assert found[:3].tolist() == [-1] * 3, found
    left = torch.tensor([0, 1, 2, 3, 4, 5, 7], device=DEVICE)
    assert torch.equal(logits[left].nan_to_num(), before[left].nan_to_num()), "rows of others"
    assert logits[6].isfinite().nonzero().flatten().tolist() == [int(found[3])]


def _check_tilt(dtype: torch.dtype) -> str:
    for vocabulary in (WIDE, 1_003):
        step = Step(16, vocabulary, dtype, 3)
        step.logits[3, 5:900] = -torch.inf
        words = step.torch_words(step.logits)
        expected = RED_GREEN.embed(step.logits.float(), words).to(dtype)
        for tiling in (TiltTiling(), TiltTiling(2048, 4, True)):
            found = tilt_green(
                step.hashes(),
                step.streams,
                step.logits.clone(),
                RED_GREEN.first_red,
                2.0,
                tiling=tiling,
            )
            assert torch.equal(found, expected), (vocabulary, tiling)
    return "every logit equal"


def _check_tournament(dtype: torch.dtype) -> dict[str, float]:
    distances = []
    for vocabulary, layers in ((WIDE, LAYERS), (1_003, 32))[: 2 if dtype == torch.float32 else 1]:
        step = Step(16, vocabulary, dtype, layers)
        step.logits[3, 5:900] = -torch.inf
        words = step.torch_words(step.logits)
        expected = Tournament(layers).embed(step.logits.double(), words).exp()
        for tiling in (None, TournamentTiling(512, 16)):
            marked = play_tournament(
                step.hashes(), step.streams, step.logits.clone(), layers, tiling=tiling
            )
            distance = (marked.double().exp() - expected).abs().sum(dim=1).max() / 2
            distances.append(float(distance))
    limit = 1e-5 if dtype == torch.float32 else 1e-2
    assert max(distances) < limit, distances
    return {"largest_total_variation_distance": max(distances)}


def _marks(step: Step, logits: Tensor) -> dict[str, Callable[[], Tensor]]:
    return {
        "gumbel": lambda: gumbel_winners(step.hashes(), step.streams, logits),
        "red-green": lambda: tilt_green(
            step.hashes(), step.streams, logits, RED_GREEN.first_red, 2.0
        ),
        "tournament": lambda: play_tournament(step.hashes(), step.streams, logits, LAYERS),
    }


def _check_capture(name: str, dtype: torch.dtype) -> str:
    """Capture, change every input in place, replay, and compare with a plain call."""
    step, other = Step(32, WIDE, dtype, 1), Step(32, WIDE, dtype, 2)
    logits = step.logits.clone()
    mark = _marks(step, logits)[name]
    mark()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mark()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = mark()
    for own, its in (
        (logits, other.logits), (step.keys, other.keys), (step.contexts, other.contexts),
        (step.streams, other.streams),
    ):  # fmt: skip
        own.copy_(its)
    graph.replay()
    torch.cuda.synchronize()
    expected = _marks(other, other.logits.clone())[name]()
    assert torch.equal(out, expected), "the replay differs"
    return "no wait, captured, replayed on other inputs"


def _jobs() -> dict[str, Callable[[], Any]]:
    """List the checks."""
    jobs: dict[str, Callable[[], Any]] = {"words": _check_words}
    for dtype in (torch.float32, torch.bfloat16):
        short = str(dtype).removeprefix("torch.")
        jobs[f"gumbel {short}"] = partial(_check_winners, dtype)
        jobs[f"red-green {short}"] = partial(_check_tilt, dtype)
        jobs[f"tournament {short}"] = partial(_check_tournament, dtype)
    for name in ("gumbel", "red-green", "tournament"):
        jobs[f"graph {name}"] = partial(_check_capture, name, torch.float32)
    return jobs


def _checks(report: Report) -> None:
    for name, job in _jobs().items():
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
    jobs: list[Callable[[], object]] = list(_jobs().values())
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
