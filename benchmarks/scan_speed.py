"""How fast is a corpus scanned, beside its tokenizer alone and beside other detectors; how large?

Every measurement runs in a process of its own (`benchmarks.scan_speed_part`), ours and the peer's
by turns. Wall time on a busy machine says little: processor seconds are recorded beside it, and the
ratios are medians of pairs. Text is WikiText-2 with one word in twelve replaced at random.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.record import write_result
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey
from watermark.models import resolve_model

DATA = Path(__file__).parents[2] / "shared" / "data"
ROOT = Path(__file__).parents[1]
ENGINES = ROOT / ".engines"
_VOCABULARY, _DOCUMENT = 49_152, 1_000
_OFFLINE = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


def _write_text(path: Path, n_bytes: int, seed: int) -> None:
    text = "".join((DATA / f"wikitext2_{p}.txt").read_text("utf-8") for p in ("test", "valid"))
    paragraphs = [p.split(" ") for p in text.split("\n") if len(p) > 400]
    words, rng, written = np.array(text.split(), object), np.random.default_rng(seed), 0
    with path.open("w", encoding="utf-8") as file:
        while written < n_bytes:
            chosen = rng.integers(0, len(paragraphs), 3)
            mixed = np.array([word for i in chosen for word in paragraphs[i]], object)
            at = rng.integers(0, len(mixed), len(mixed) // 12)
            mixed[at] = words[rng.integers(0, len(words), len(at))]
            written += file.write(json.dumps({"text": " ".join(mixed)}) + "\n")


def _write_ids(path: Path, n_bytes: int, seed: int) -> None:
    """Ids as a column of lists, 4 bytes each, incompressible."""
    rng, rows = np.random.default_rng(seed), 1_000
    schema = pa.schema([("token_ids", pa.list_(pa.int32()))])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        while path.stat().st_size < n_bytes:
            ids = pa.array(rng.integers(0, _VOCABULARY, rows * _DOCUMENT).astype(np.int32))
            ends = pa.array(np.arange(0, rows * _DOCUMENT + 1, _DOCUMENT).astype(np.int32))
            writer.write_table(pa.table([pa.ListArray.from_arrays(ends, ids)], schema))


def _ask(case: str, *arguments: Any, python: Path | str = sys.executable) -> dict[str, Any]:
    command = [str(python), "-m", "benchmarks.scan_speed_part", case, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **_OFFLINE}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        raise click.ClickException(f"{case}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    click.echo(f"{case}: {found}", err=True)
    return found


def _scan(source: Path, key: Path, *options: str) -> dict[str, Any]:
    """Run the command; processor seconds with those of its workers, and peak memory of all."""
    command = [sys.executable, "-m", "detect", "scan", str(source), "--key", str(key), "--json"]
    before, started = os.times(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder}
        with subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, cwd=ROOT, env=environment
        ) as process:
            peak = _watch(process.pid)
            assert process.stdout is not None
            payload = json.loads(process.stdout.read())
    after = os.times()
    found = {
        "tokens": payload["n_tokens"],
        "pairs": payload["n_scored"],
        "wall_s": time.perf_counter() - started,
        "processor_s": sum(after[2:4]) - sum(before[2:4]),
        "peak_memory_mb": peak[0],
    }
    click.echo(f"scan of {source.name} {options}: {found}", err=True)
    return found


def _watch(pid: int) -> list[float]:
    """Follow the private memory of a process and its children; files on disk are not counted."""
    peak = [0.0]

    def follow() -> None:
        while Path(f"/proc/{pid}").exists():
            peak[0] = max(peak[0], sum(_private_mb(p) for p in [pid, *_children(pid)]))
            time.sleep(0.05)

    threading.Thread(target=follow, daemon=True).start()
    return peak


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except OSError:
        return []


def _private_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


def _text(folder: Path, key: Path, megabytes: int, repeats: int, seed: int) -> dict[str, Any]:
    """What a scan costs beyond the start of its processes: two sizes, their difference."""
    small, large = folder / "small.jsonl", folder / "large.jsonl"
    _write_text(small, megabytes * 10**6 // 4, seed)
    _write_text(large, megabytes * 10**6, seed + 1)
    runs = []
    for _ in range(repeats):
        encoding = _ask("encoding", large)
        short, long = (_scan(f, key, "--workers", "2", "--decoys", "0") for f in (small, large))
        run: dict[str, Any] = {"tokenizers_alone": encoding, "short_scan": short, "scan": long}
        tokens = long["tokens"] - short["tokens"]
        for clock in ("wall_s", "processor_s"):
            ours = tokens / (long[clock] - short[clock])
            run[f"speed_ratio_{clock}"] = ours * encoding[clock] / encoding["tokens"]
        runs.append(run)
    return {
        "megabytes": megabytes,
        "runs": runs,
        **{
            f"median_speed_ratio_{clock}": median(run[f"speed_ratio_{clock}"] for run in runs)
            for clock in ("wall_s", "processor_s")
        },
    }


def _phases(folder: Path, megabytes: int, repeats: int, seed: int) -> dict[str, Any]:
    """What scanning costs by phase, beside its tokenizer in the same process."""
    path = folder / "phases.jsonl"
    _write_text(path, megabytes * 10**6, seed)
    os.environ["RAYON_NUM_THREADS"] = "1"
    runs = [_ask("phases", path) for _ in range(repeats)]

    def ratio(run: dict[str, Any], *phases: str) -> float:
        alone = float(run["tokenizer_alone"]["processor_s"])
        return alone / sum(run[phase]["processor_s"] for phase in phases)

    growing = ("scanning", "adding_up")
    return {
        "megabytes": megabytes,
        "runs": runs,
        "median_speed_ratio_of_scanning": median(ratio(run, "scanning") for run in runs),
        "median_speed_ratio_of_what_grows": median(ratio(run, *growing) for run in runs),
        "median_speed_ratio_of_all": median(ratio(run, *growing, "finalising") for run in runs),
    }


def _ids(repeats: int) -> dict[str, Any]:
    """Detection where ids are given, one core, one key."""
    rounds = []
    for _ in range(repeats):
        one = {name: _ask("ids", name) for name in ("default", "gumbel", "red-green", "tournament")}
        one["vllm_mark_by_us"] = _ask("ids", "vllm")
        one["transformers_mark_by_us"] = _ask("ids", "transformers-kgw")
        one["transformers_mark_by_transformers"] = _ask("transformers")
        if (python := ENGINES / "vllm" / "bin" / "python").exists():
            one["vllm_mark_by_vllm"] = _ask("vllm", python=python)
        rounds.append(one)
    rates = {
        name: median(one[name]["tokens"] / one[name]["processor_s"] for one in rounds)
        for name in rounds[0]
    }
    found: dict[str, Any] = {"rounds": rounds, "median_tokens_per_processor_s": rates}
    for engine in ("transformers", "vllm"):
        if f"{engine}_mark_by_{engine}" in rates:
            ours = [one[f"{engine}_mark_by_us"] for one in rounds]
            theirs = [one[f"{engine}_mark_by_{engine}"] for one in rounds]
            found[f"median_ratio_to_{engine}"] = median(
                (a["tokens"] / a["processor_s"]) / (b["tokens"] / b["processor_s"])
                for a, b in zip(ours, theirs, strict=True)
            )
    return found


def _memory(folder: Path, key: Path, sizes: list[int], seed: int) -> list[dict[str, Any]]:
    runs = []
    for size in sizes:
        path = folder / f"{size}.parquet"
        _write_ids(path, size * 10**6, seed)
        found = _scan(path, key, "--workers", "2", "--decoys", "999", "--sample", "1000")
        runs.append({"megabytes": size, **found})
        path.unlink()
    return runs


def _ray(folder: Path, megabytes: int, repeats: int, seed: int) -> dict[str, Any]:
    path = folder / "ray.jsonl"
    _write_text(path, megabytes * 10**6, seed)
    python = ENGINES / "ray" / "bin" / "python"
    # Ray's environment has no model.
    tokenizer = resolve_model("smollm2") / "tokenizer.json"
    rounds = [
        {n: _ask("ray", path, n, tokenizer, python=python) for n in (1, 2)} for _ in range(repeats)
    ]
    ratios = [one[1]["wall_s"] / one[2]["wall_s"] for one in rounds]
    return {"megabytes": megabytes, "rounds": rounds, "median_speed_of_2_to_1": median(ratios)}


@click.command()
@click.option(
    "--case", type=click.Choice(["text", "phases", "ids", "memory", "ray"]), required=True
)
@click.option("--megabytes", default=64, help="Of text.")
@click.option("--sizes", default="100,300,1000", help="Megabytes of ids, for --case memory.")
@click.option("--repeats", default=3)
@click.option("--seed", default=0)
def main(case: str, megabytes: int, sizes: str, repeats: int, seed: int) -> None:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_key(SecretKey(np.random.default_rng(seed).bytes(32)), folder / "k.json")
        measured: dict[str, Any]
        match case:
            case "text":
                measured = _text(folder, folder / "k.json", megabytes, repeats, seed)
            case "phases":
                measured = _phases(folder, megabytes, repeats, seed)
            case "ids":
                measured = _ids(repeats)
            case "memory":
                in_order = [int(size) for size in sizes.split(",")]
                measured = {"runs": _memory(folder, folder / "k.json", in_order, seed)}
            case _:
                measured = _ray(folder, megabytes, repeats, seed)
    measured["load_average_before_and_after"] = [load, os.getloadavg()[0]]
    write_result("scan_speed", seed=seed, measured=measured, case=case)
    click.echo(json.dumps({k: v for k, v in measured.items() if k not in ("runs", "rounds")}))


if __name__ == "__main__":
    main()
