"""Documents that come one by one: the result of a scan of their files; the key has no way out."""

from __future__ import annotations

import base64
import json
import stat
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from detect.scanning.on_datatrove import FinishStep, ScanStep, StreamScan
from detect.scanning.running import OneProcess, run_scan
from detect.text import DIRECT_EFFECT
from tests.conftest import PARAGRAPH
from tests.detect.scanning.scan_command import KEY, Quiet, order_for
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.errors import ConfigError, DocumentError, KeyFileError, ResultError
from watermark.keyring.key_files import save_key
from watermark.tokens import TextTokenizer

FILES = 3


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three files, copies within and between them."""
    folder, rng, words = tmp_path / "corpus", np.random.default_rng(1), PARAGRAPH.split()
    folder.mkdir()
    for i in range(FILES):
        texts = [" ".join(rng.choice(words, 60)) for _ in range(30)]
        rows = [{"id": f"{i}-{j}", "text": t} for j, t in enumerate([*texts, texts[0], PARAGRAPH])]
        # A folder is walked before what sorts ahead of its separator.
        path = folder / ("0" if i == 0 else "0-0") / f"{i}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def order(tmp_path: Path, tokenizer_folder: Path) -> StreamScan:
    save_key(KEY, tmp_path / "k.json")
    return StreamScan(
        str(tmp_path / "parts"), str(tmp_path / "k.json"), tokenizer=str(tokenizer_folder),
        alpha=1e-6, n_decoys=99, sample=300, part_pairs=300,
    )  # fmt: skip


def _documents(folder: Path, task: int, n_tasks: int) -> Iterator[Any]:
    """As datatrove's reader gives them: every n-th file is this task's."""
    for path in sorted(folder.rglob("*.jsonl"), key=str)[task::n_tasks]:
        for row in map(json.loads, path.read_text().splitlines()):
            yield SimpleNamespace(**row, metadata={"file_path": str(path)})


def _document(text: Any = "a b c", **metadata: Any) -> Any:
    return SimpleNamespace(id="x", text=text, metadata=metadata)


def _scanned(order: StreamScan, corpus: Path, n_tasks: int) -> None:
    for task in range(n_tasks):
        documents = list(_documents(corpus, task, n_tasks))
        assert list(ScanStep(order)(iter(documents), task, n_tasks)) == documents


def _finished(order: StreamScan, tmp_path: Path) -> dict[str, Any]:
    table = tmp_path / "d.parquet"
    assert list(FinishStep(order, str(tmp_path / "r.json"), str(table))()) == []
    found: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
    assert pq.read_table(table).to_pylist() == found["documents"]
    return found


def _without_sources(result: dict[str, Any]) -> dict[str, Any]:
    rows = [{k: v for k, v in row.items() if k != "source"} for row in result["documents"]]
    return {**result, "documents": rows}


@pytest.mark.parametrize("n_tasks", [1, 2, 5])
def test_the_result_is_that_of_a_scan_of_the_files(
    n_tasks: int,
    corpus: Path,
    order: StreamScan,
    tokenizer: TextTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("detect.scanning.shards._BATCH_DOCUMENTS", 4)
    scan = order_for(str(corpus), tokenizer)
    scan = replace(scan, plan=replace(scan.plan, effect=DIRECT_EFFECT))
    local = run_scan(scan, tmp_path / "w", OneProcess(), Quiet())
    _scanned(order, corpus, n_tasks)
    assert len(list(Path(order.folder).rglob("*.npz"))) > 10
    found = _finished(order, tmp_path)
    expected = {"schema": found["schema"], **local.to_dict()}
    assert found["deduplication"]["n_dropped"] > 50
    assert _without_sources(found) == _without_sources(json.loads(json.dumps(expected)))
    assert found["documents"][33]["source"] == f"{corpus / '0-0' / '1.jsonl'}, document 2"
    assert not list(Path(order.folder).iterdir())


def test_ids_of_the_metadata_are_scanned_if_they_are_named(
    order: StreamScan, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    ids = marked_ids(preset("default"), KEY, 60, vocabulary=tokenizer.vocab_size, seed=1)
    documents = [_document(ids=ids.tolist()), _document(ids=[10**6]), _document()]
    order = replace(order, ids_field="ids", skip_bad=True)
    list(ScanStep(order)(documents))
    found = _finished(order, tmp_path)
    assert found["verdict"] == "signal"
    assert found["documents"][0]["source"] == "task 00000, document 1"
    assert found["left_out"]["reasons"] == {"id_out_of_vocabulary": 1, "no_text_and_no_ids": 1}
    assert "task 00000, document 2: token id 1000000 is not in" in found["left_out"]["examples"][0]


@pytest.mark.parametrize("text", ["\ud800", None, 7])
def test_a_document_that_cannot_be_scanned_ends_its_task_and_is_named(
    text: Any, order: StreamScan
) -> None:
    documents = [_document(), _document(text, file_path="a.jsonl")]
    with pytest.raises(DocumentError, match=r"(?s)^a\.jsonl, document 1: .*skip_bad=True"):
        list(ScanStep(order)(documents))
    with pytest.raises(ConfigError, match="no task that is done"):
        list(FinishStep(order, "r.json")())


def test_a_task_that_was_not_read_to_its_end_is_not_done(
    corpus: Path, order: StreamScan, tmp_path: Path
) -> None:
    _scanned(order, corpus, 2)
    whole = {p: p.read_bytes() for p in Path(order.folder).rglob("*.npz")}
    stopped = ScanStep(order)(_documents(corpus, 1, 2), 1, 2)
    next(stopped)
    with pytest.raises(ConfigError, match="another scan is running in"):
        list(ScanStep(order)(_documents(corpus, 1, 2), 1, 2))
    stopped.close()
    with pytest.raises(DocumentError, match=r"1 of 2 tasks are not done .* first is 1"):
        list(FinishStep(order, "r.json")())
    list(ScanStep(order)(_documents(corpus, 1, 2), 1, 2))
    assert {p: p.read_bytes() for p in Path(order.folder).rglob("*.npz")} == whole
    _finished(order, tmp_path)


def test_parts_of_an_earlier_run_do_not_stay(
    corpus: Path, order: StreamScan, tmp_path: Path
) -> None:
    _scanned(order, corpus, 1)
    list(ScanStep(order)([_document()]))
    assert _finished(order, tmp_path)["n_documents"] == 1


def test_another_scan_and_more_tasks_are_refused(corpus: Path, order: StreamScan) -> None:
    _scanned(order, corpus, 2)
    for other, name in (({"score": "own"}, "score"), ({"seed": 1}, "seed")):
        with pytest.raises(ConfigError, match=f"begun with another {name}"):
            list(ScanStep(replace(order, **other))([], 0, 2))
        with pytest.raises(ConfigError, match=f"done with another {name}"):
            list(FinishStep(replace(order, **other), "r.json")())
    with pytest.raises(ConfigError, match="begun with another tasks"):
        list(ScanStep(order)([], 0, 3))
    with pytest.raises(ConfigError, match="tasks=1"):
        list(FinishStep(order, "r.json")(None, 0, 2))
    Path(order.folder).chmod(0o750)
    with pytest.raises(ConfigError, match="as secret as the key"):
        list(ScanStep(order)([], 0, 2))


def test_what_tasks_leave_is_their_owners_alone(corpus: Path, order: StreamScan) -> None:
    _scanned(order, corpus, 2)
    for path in [Path(order.folder), *Path(order.folder).rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_score_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown score 'loud'; expected one of own, "):
        StreamScan("parts", "k.json", score="loud")


@pytest.mark.parametrize("key", [KEY, bytes(32), base64.b64encode(bytes(32)).decode(), "0" * 64])
def test_a_key_in_place_of_its_place_is_refused(key: Any) -> None:
    with pytest.raises(KeyFileError, match="may be the key itself") as caught:
        StreamScan("parts", key)
    assert str(key) not in str(caught.value)


def test_no_error_has_frames_that_hold_the_key(
    order: StreamScan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """loguru shows the values of all variables on a stack's lines."""

    def broken(*given: Any) -> Any:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("detect.scanning.batches._units", broken)
    with pytest.raises(ResultError, match=r"(?s)unexpectedly.*_units.*by nought") as caught:
        list(ScanStep(order)([_document(PARAGRAPH)]))
    error: Any = caught.value
    files = {Path(f.filename).name for f in traceback.extract_tb(error.__traceback__)}
    assert files <= {"test_streamed.py", "on_datatrove.py", "contextlib.py", "streamed.py"}
    names = {f.name for f in traceback.extract_tb(error.__traceback__)}
    assert not names & {"add", "end", "_scan", "load"}
    assert error.__cause__ is error.__context__ is None
