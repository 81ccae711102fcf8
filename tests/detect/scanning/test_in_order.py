"""Readers: every way in, and every damage named with file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detect.documents import Columns
from detect.scanning.in_order import read_documents
from watermark.errors import DocumentError

ROWS: list[dict[str, Any]] = [{"id": f"d{i}", "text": f"text number {i} é"} for i in range(5)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _parquet(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    return path


def _sources(folder: Path) -> dict[str, str | Path]:
    with pa.CompressedOutputStream(str(folder / "a.jsonl.zst"), "zstd") as stream:
        stream.write(LINES)
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "set"))
    return {
        "jsonl": _write(folder / "a.jsonl", LINES),
        "gz": _write(folder / "a.jsonl.gz", gzip.compress(LINES)),
        "zst": folder / "a.jsonl.zst",
        "parquet": _parquet(folder / "a.parquet"),
        "datasets": f"datasets:{folder / 'set'}",
    }


@pytest.mark.parametrize("kind", ["jsonl", "gz", "zst", "parquet", "datasets"])
def test_every_format_gives_the_same_documents(kind: str, tmp_path: Path) -> None:
    documents = list(read_documents(_sources(tmp_path)[kind]))
    assert [(d.id, d.text) for d in documents] == [(r["id"], r["text"]) for r in ROWS]


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    _write(tmp_path / "b.txt", b"plain text")
    _write(tmp_path / "a.jsonl", LINES)
    _write(tmp_path / "notes.md", b"not read")
    _write(tmp_path / "c.JSONL", LINES)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "to").symlink_to(_beside(tmp_path))
    assert len(list(read_documents(tmp_path))) == 16


def _beside(folder: Path) -> Path:
    beside = folder.with_name(f"{folder.name} beside")
    beside.mkdir()
    _write(beside / "d.jsonl", LINES)
    return beside


def test_ids_are_read_where_there_is_no_text(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", b'{"token_ids": [1, 2]}\n\n{"ids": [3], "text": null}\n')
    first = next(read_documents(path))
    assert first.token_ids == (1, 2)


def test_an_empty_file_holds_no_documents(tmp_path: Path) -> None:
    assert list(read_documents(_write(tmp_path / "a.jsonl", b""))) == []
    assert list(read_documents(_write(tmp_path / "b.jsonl", b"\n\n"))) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{broken", "line 2: not JSON"),
        (b"[1]", "line 2: expected a JSON object"),
        (b'{"text": "\xff"}', "line 2: not UTF-8 at byte 10"),
        (b'{"body": "x", "url": "y"}', "it has: body, url"),
        (b'{"text": 5}', "got int"),
        (b'{"text": null}', "got NoneType"),
        (b'{"token_ids": [1, -2]}', "got list"),
        (b'{"token_ids": [true]}', "got list"),
        (b'{"text": "a \\ud800 b"}', "line 2: not valid Unicode"),
        (b"[" * 100_000, "line 2"),
    ],
)
def test_a_bad_line_is_named(line: bytes, message: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", b'{"text": "good"}\n' + line + b"\n")
    with pytest.raises(DocumentError, match=message) as caught:
        list(read_documents(path))
    assert "a.jsonl" in str(caught.value)


@pytest.mark.parametrize("kind", ["gz", "zst", "parquet"])
@pytest.mark.parametrize("keep", [0.5, 0.1])
def test_a_truncated_file_is_named(kind: str, keep: float, tmp_path: Path) -> None:
    path = Path(_sources(tmp_path)[kind])
    content = path.read_bytes()
    path.write_bytes(content[: max(int(len(content) * keep), 5)])
    with pytest.raises(DocumentError, match=path.name):
        list(read_documents(path))


def test_a_parquet_without_the_column_lists_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["x"], "url": ["y"]}), path)
    with pytest.raises(DocumentError, match=r"it has: body, url.*--text-field"):
        list(read_documents(path))
    assert next(read_documents(path, Columns(text="body"))).text == "x"


def test_damaged_text_inside_a_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"text": bad}), path)
    with pytest.raises(DocumentError, match=r"a\.parquet, row 1: damaged"):
        list(read_documents(path))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for source, message in (
        (tmp_path / "none.jsonl", "no file or folder"),
        (tmp_path, "holds no .jsonl"),
        (_write(tmp_path / "a.csv", b"x"), "expected .jsonl"),
        (f"datasets:{tmp_path / 'none'}", "cannot be read"),
    ):
        with pytest.raises(DocumentError, match=message):
            list(read_documents(source))
