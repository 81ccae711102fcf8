"""A scan from end to end: killed at any moment it goes on, and the bytes are those of one run."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from detect.documents import Columns
from detect.scanning.processes import Processes
from detect.scanning.running import OneProcess, run_scan
from detect.scanning.work import MANIFEST
from tests.conftest import PARAGRAPH
from tests.detect.scanning.scan_command import Quiet, order_for
from tests.detect.synthetic import marked_ids
from watermark.channels import ReasoningChannel
from watermark.config import preset
from watermark.errors import ConfigError, DocumentError
from watermark.keys import SecretKey
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> Path:
    """Texts and ids, marked and plain, with copies, over two files."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(1)
    words = PARAGRAPH.split()
    rows: list[dict[str, Any]] = [
        {"id": f"t{i}", "text": " ".join(rng.choice(words, rng.integers(0, 120)))}
        for i in range(120)
    ]
    for i in range(4):
        ids = marked_ids(preset("default"), KEY, 60, vocabulary=tokenizer.vocab_size, seed=i)
        rows += [{"token_ids": ids.tolist()}] * 2
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "b.txt").write_text(PARAGRAPH)
    return folder


def _command(corpus: Path, tokenizer_folder: Path, out: Path, workers: int = 1) -> list[str | Path]:
    return [
        sys.executable, "-m", "tests.detect.scanning.scan_command",
        corpus, tokenizer_folder, out / "parts", out / "r.json", out / "d.parquet", str(workers),
    ]  # fmt: skip


def _bytes(out: Path) -> tuple[bytes, bytes]:
    return (out / "r.json").read_bytes(), (out / "d.parquet").read_bytes()


def test_killed_at_random_moments_it_ends_in_the_same_bytes(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    subprocess.run(_command(corpus, tokenizer_folder, unbroken), check=True)
    n_files = len(list((unbroken / "parts").iterdir()))
    assert n_files > 60
    rng, kills = random.Random(0), 0
    for target in sorted(rng.sample(range(2, n_files), 4)):
        with subprocess.Popen(_command(corpus, tokenizer_folder, broken)) as process:
            while process.poll() is None:
                parts = broken / "parts"
                if parts.exists() and len(list(parts.iterdir())) >= target:
                    time.sleep(rng.uniform(0, 0.003))
                    process.kill()
                    break
                time.sleep(0.001)
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2
    made = {p.name: p.stat().st_mtime_ns for p in (broken / "parts").glob("*.npz")}
    subprocess.run(_command(corpus, tokenizer_folder, broken), check=True)
    assert _bytes(broken) == _bytes(unbroken)
    # What was done is not done again.
    assert all((broken / "parts" / name).stat().st_mtime_ns == t for name, t in made.items())
    assert not list((broken / "parts").glob(".*.tmp"))


def test_processes_give_the_same_bytes_and_die_with_their_parent(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run(_command(corpus, tokenizer_folder, one), check=True)
    with subprocess.Popen(_command(corpus, tokenizer_folder, two, 2)) as process:
        while not list((two / "parts").glob("*.npz")):
            assert process.poll() is None
            time.sleep(0.01)
        children = _children(process.pid)
        process.kill()
    assert len(children) >= 2
    deadline = time.monotonic() + 30
    while any(_alive(child) for child in children):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    subprocess.run(_command(corpus, tokenizer_folder, two, 2), check=True)
    assert _bytes(one) == _bytes(two)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_the_split_decides_nothing(corpus: Path, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    results = []
    for shard_bytes in (1_500, 1 << 20):
        order = order_for(str(corpus), tokenizer, shard_bytes=shard_bytes)
        found = run_scan(order, tmp_path / str(shard_bytes), OneProcess(), Quiet()).to_dict()
        results.append(found)
    assert results[0] == results[1]
    assert results[0]["verdict"] == "signal"
    assert results[0]["n_significant"] == 8
    assert results[0]["documents"][120]["source"].endswith("a.jsonl, line 121")
    assert results[0]["documents"][120]["id"] == "a.jsonl, line 121"
    assert results[0]["documents"][-1]["id"] == "b.txt"
    assert results[0]["deduplication"]["n_dropped"] > 100


def test_the_table_has_what_the_result_lists(
    corpus: Path, tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detect.scanning.summary.MAX_LISTED", 5)
    table = tmp_path / "d.parquet"
    order = order_for(str(corpus), tokenizer, table=table)
    found = run_scan(order, tmp_path / "parts", OneProcess(), Quiet()).to_dict()
    rows = pq.read_table(table).to_pylist()
    assert len(rows) == found["n_documents"] == 129
    assert len(found["documents"]) == 5
    strongest = sorted(rows, key=lambda row: row["log10_p"])[:5]
    assert [d["id"] for d in found["documents"]] == [r["id"] for r in rows if r in strongest]
    assert found["n_significant"] == sum(row["verdict"] == "signal" for row in rows) == 8


def test_another_scan_does_not_go_on_from_here(
    corpus: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    order = order_for(str(corpus), tokenizer)
    run_scan(order, tmp_path / "parts", OneProcess(), Quiet())
    for other, name in (
        (replace(order, columns=Columns("body")), "columns"),
        (replace(order, plan=replace(order.plan, key=SecretKey(bytes(32)))), "key"),
        (replace(order, skips_bad=True), "skip_bad"),
    ):
        with pytest.raises(ConfigError, match=f"begun with another {name}"):
            run_scan(other, tmp_path / "parts", OneProcess(), Quiet())
    saved = (tmp_path / "parts" / MANIFEST).read_text()
    assert order.plan.key.key_id in saved
    assert str(order.scan.key_integers[0]) not in saved


def test_parts_of_nobody_knows_which_scan_are_not_taken(
    corpus: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    order = order_for(str(corpus), tokenizer)
    run_scan(order, tmp_path, OneProcess(), Quiet())
    (tmp_path / MANIFEST).unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="but no scan"):
        run_scan(order, tmp_path, OneProcess(), Quiet())
    assert sorted(tmp_path.iterdir()) == before


def test_a_changed_file_is_another_corpus(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one two three four five six")
    run_scan(order_for(str(path), tokenizer), tmp_path / "parts", OneProcess(), Quiet())
    path.write_text("one two three four five six seven")
    with pytest.raises(ConfigError, match="another files, pieces"):
        run_scan(order_for(str(path), tokenizer), tmp_path / "parts", OneProcess(), Quiet())


def test_two_scans_do_not_share_a_folder(
    corpus: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    class Nested(Quiet):
        def begin(self, corpus_: Any) -> None:
            with pytest.raises(ConfigError, match="another scan is running"):
                run_scan(order_for(str(corpus), tokenizer), tmp_path, OneProcess(), Quiet())

    run_scan(order_for(str(corpus), tokenizer), tmp_path, OneProcess(), Nested())


def _bad_lines(folder: Path) -> Path:
    lines = [
        b'{"text": "a good text of a few words"}', b"{broken", b'{"text": "\xff"}',
        b'{"text": ""}', b'{"token_ids": [1000000]}', b'{"token_ids": []}', b'{"body": 1}',
        b'{"text": "another good text of a few words"}',
    ]  # fmt: skip
    (folder / "a.jsonl").write_bytes(b"\n".join(lines))
    return folder / "a.jsonl"


@pytest.mark.parametrize("shard_bytes", [10, 1 << 20])
def test_bad_documents_are_counted_by_reason(
    shard_bytes: int, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    source = str(_bad_lines(tmp_path))
    order = order_for(source, tokenizer, skips_bad=True, shard_bytes=shard_bytes)
    found = run_scan(order, tmp_path / "parts", OneProcess(), Quiet()).to_dict()
    assert found["left_out"]["reasons"] == {
        "id_out_of_vocabulary": 1, "no_text_and_no_ids": 1, "not_json": 1, "not_utf8": 1,
    }  # fmt: skip
    # Empty documents are documents: nothing is wrong with them.
    assert found["n_documents"] == 4
    examples = found["left_out"]["examples"]
    assert [e.split("a.jsonl, ")[1].split(":")[0] for e in examples] == [
        "line 2", "line 3", "line 5", "line 7",
    ]  # fmt: skip


@pytest.mark.parametrize("shard_bytes", [10, 1 << 20])
def test_a_bad_document_ends_the_scan_unless_it_is_counted(
    shard_bytes: int, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    source = _bad_lines(tmp_path)
    order = order_for(str(source), tokenizer, shard_bytes=shard_bytes)
    with pytest.raises(DocumentError, match=r"(?s)a.jsonl, line 2: not JSON.*--skip-bad"):
        run_scan(order, tmp_path / "parts", OneProcess(), Quiet())
    source.write_bytes(b'{"text": "x"}\n' * 4 + b'{"token_ids": [1000000]}')
    with pytest.raises(DocumentError, match=r"a.jsonl, line 5: token id 1000000 is not in"):
        run_scan(order, tmp_path / "other", OneProcess(), Quiet())


def test_a_damaged_part_is_made_again(
    corpus: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    order = order_for(str(corpus), tokenizer)
    whole = run_scan(order, tmp_path / "parts", OneProcess(), Quiet()).to_dict()
    for i, path in enumerate(sorted((tmp_path / "parts").glob("*.npz"))[:3]):
        path.write_bytes(path.read_bytes()[: 100 * i])
    assert run_scan(order, tmp_path / "parts", OneProcess(), Quiet()).to_dict() == whole
    hashes = sorted((tmp_path / "parts").glob("*-hashes.npy"))
    hashes[0].unlink()
    hashes[1].write_bytes(hashes[1].read_bytes()[:-8])
    hashes[2].write_bytes(b"")
    shutil.copy(hashes[4], hashes[3])
    assert run_scan(order, tmp_path / "parts", OneProcess(), Quiet()).to_dict() == whole


def test_a_file_that_changes_during_the_scan_ends_it(
    tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one two three"}\n' * 9)

    class Changing(Quiet):
        def progress(self, done: Any) -> None:
            with path.open("a") as file:
                file.write("\n")

    order = order_for(str(path), tokenizer)
    with pytest.raises(DocumentError, match=r"a\.jsonl has changed since the scan began"):
        run_scan(order, tmp_path / "parts", OneProcess(), Changing())


def test_a_source_without_stamps_is_not_resumed(
    tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("one two three")
    monkeypatch.setattr("detect.scanning.stores._STAMPS", ())
    order = order_for(f"file://{tmp_path}/a.txt", tokenizer)
    run_scan(order, tmp_path / "parts", OneProcess(), Quiet())
    with pytest.raises(ConfigError, match="cannot be resumed"):
        run_scan(order, tmp_path / "parts", OneProcess(), Quiet())


def test_a_changed_dataset_is_another_corpus(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    import datasets

    order = order_for(f"datasets:{tmp_path / 'set'}", tokenizer)
    for text in ("one two three", "one two eight"):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        datasets.Dataset.from_list([{"text": text}]).save_to_disk(str(tmp_path / "set"))
        if text.endswith("three"):
            run_scan(order, tmp_path / "parts", OneProcess(), Quiet())
    with pytest.raises(ConfigError, match="begun with another files"):
        run_scan(order, tmp_path / "parts", OneProcess(), Quiet())


def test_borders_outside_the_vocabulary_are_refused(
    corpus: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    order = order_for(str(corpus), tokenizer)
    reasoning = ReasoningChannel((tokenizer.vocab_size + 1,), (tokenizer.vocab_size + 2,))
    config = replace(order.plan.config, reasoning=reasoning)
    order = replace(order, plan=replace(order.plan, config=config))
    with pytest.raises(ConfigError, match="border of the reasoning channel"):
        run_scan(order, tmp_path / "parts", OneProcess(), Quiet())


def test_workers_are_dead_before_their_reports_have_no_reader() -> None:
    calls: list[str] = []

    class Recorder:
        def __init__(self, name: str) -> None:
            self._name, self._processes = name, {}

        def __getattr__(self, called: str) -> Any:
            return lambda **options: calls.append(f"{self._name}.{called}")

    crew = Processes(1)
    crew._reports.close()
    pool: Any = Recorder("pool")
    pool._processes = {1: Recorder("worker")}
    crew._pool, crew._reports = pool, Recorder("reports")
    crew.__exit__(KeyboardInterrupt)
    assert calls == [
        "pool.shutdown", "worker.kill", "worker.join",
        "reports.close", "reports.cancel_join_thread",
    ]  # fmt: skip


def _small_files_only() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))


def test_a_full_disk_is_told_and_what_stands_is_used_again(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """A limit on file sizes stands for the full disk: writing fails in the middle of a file."""
    out = tmp_path / "out"
    command: Callable[..., subprocess.CompletedProcess[bytes]] = lambda **options: subprocess.run(  # noqa: E731
        _command(corpus, tokenizer_folder, out), capture_output=True, **options
    )
    done = command(preexec_fn=_small_files_only)
    assert done.returncode == 1
    assert b"cannot write" in done.stderr
    assert b"too large" in done.stderr
    assert b"Traceback" not in done.stderr
    assert command().returncode == 0
    subprocess.run(_command(corpus, tokenizer_folder, tmp_path / "whole"), check=True)
    assert _bytes(out) == _bytes(tmp_path / "whole")


def test_a_killed_worker_is_an_error_that_says_what_to_do(
    corpus: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    from watermark.errors import ResultError

    class Killer(Quiet):
        def progress(self, done: Any) -> None:
            for child in _children(os.getpid()):
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(child, signal.SIGKILL)

    with pytest.raises(ResultError, match="killed"), Processes(1) as crew:
        run_scan(order_for(str(corpus), tokenizer), tmp_path / "parts", crew, Killer())
