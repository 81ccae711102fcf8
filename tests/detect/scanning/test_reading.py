"""Pieces: wherever a corpus is cut, its documents are the same; damage is told by its reason."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detect.documents import Columns
from detect.scanning.naming import first_lines, place_in_file
from detect.scanning.pieces import Corpus, Piece, cut_corpus
from detect.scanning.reading import Failure, Mark, Record, read_piece, where
from watermark.errors import DocumentError

TEXTS = [f"text number {i}, é" * (1 + i % 3) for i in range(40)]
LINES = [json.dumps({"id": f"d{i}", "text": t}, ensure_ascii=False) for i, t in enumerate(TEXTS)]
JSONL = ("\n".join(LINES) + "\n\n \n").encode()
COLUMNS = Columns()


def _read(corpus: Corpus) -> list[Record | Failure]:
    found: list[Record | Failure] = []
    for piece in corpus.pieces:
        found += [x for x in read_piece(piece, COLUMNS) if not isinstance(x, Mark)]
    return found


def _texts(source: str | Path, shard_bytes: int = 16 << 20) -> list[Any]:
    return [item.text for item in _read(cut_corpus(str(source), COLUMNS, shard_bytes))]  # type: ignore[union-attr]


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("shard_bytes", [1, 7, 100, 333, 10**6])
def test_a_cut_at_any_byte_loses_and_repeats_no_line(shard_bytes: int, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", JSONL)
    assert _texts(path, shard_bytes) == TEXTS
    unended = _write(tmp_path / "b.jsonl", JSONL.rstrip())
    assert _texts(unended, shard_bytes) == TEXTS


def test_lines_are_counted_from_the_beginning_of_the_file(tmp_path: Path) -> None:
    """By both ways: from what was read of earlier pieces, and from the file itself."""
    pieces = cut_corpus(str(_write(tmp_path / "a.jsonl", b"\n" + JSONL)), COLUMNS, 100).pieces
    assert len(pieces) > 5
    lines: Counter[int] = Counter()
    items = [(i, item) for i, piece in enumerate(pieces) for item in read_piece(piece, COLUMNS)]
    for i, item in items:
        lines[i] = item.place
    before = first_lines(pieces, lines)
    for i, item in items:
        if isinstance(item, Record):
            assert before[i] + item.place == place_in_file(pieces[i], item.place)
            assert LINES[before[i] + item.place - 2] == json.dumps(
                {"id": item.name, "text": item.text}, ensure_ascii=False
            )


def test_every_source_gives_the_same_texts(tmp_path: Path) -> None:
    rows = [{"id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=7)
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    (tmp_path / "hub").mkdir()
    for i in range(2):
        half = "\n".join(LINES[20 * i : 20 * i + 20])
        (tmp_path / "hub" / f"{i}.jsonl").write_text(half, encoding="utf-8")
    with pa.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as stream:
        stream.write(JSONL)
    # Packed files are often several streams one after another.
    frame = (tmp_path / "a.jsonl.zst").read_bytes()
    _write(tmp_path / "twice.jsonl.zst", frame + frame)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.jsonl", JSONL)
    path = _write(tmp_path / "a.jsonl", JSONL)
    sources = [
        path,
        f"file://{path}",
        f"file://{tmp_path / 'hub'}",
        f"zip://in/a.jsonl::file://{tmp_path / 'a.zip'}",
        f"zip://in::file://{tmp_path / 'a.zip'}",
        _write(tmp_path / "a.jsonl.gz", gzip.compress(JSONL)),
        tmp_path / "a.jsonl.zst",
        f"file://{tmp_path / 'a.jsonl.zst'}",
        tmp_path / "a.parquet",
        f"file://{tmp_path / 'a.parquet'}",
        f"datasets:{tmp_path / 'set'}",
        f"datasets:{tmp_path / 'hub'}",
    ]
    for source in sources:
        for shard_bytes in (150, 16 << 20):
            assert _texts(source, shard_bytes) == TEXTS, source
    assert _texts(tmp_path / "twice.jsonl.zst") == 2 * TEXTS


def test_reading_goes_on_where_it_was_left(tmp_path: Path) -> None:
    rows = [{"text": text} for text in TEXTS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    for source in (
        _write(tmp_path / "a.jsonl", JSONL),
        _write(tmp_path / "a.jsonl.gz", gzip.compress(JSONL)),
        tmp_path / "a.parquet",
        f"datasets:{tmp_path / 'set'}",
    ):
        (piece,) = cut_corpus(str(source), COLUMNS).pieces
        rest = [x for x in read_piece(piece, COLUMNS, skip=13) if isinstance(x, Record)]
        assert [(x.place, x.text) for x in rest] == list(enumerate(TEXTS[13:], 14))


def test_columns_of_ids_are_read_as_they_lie_in_memory(tmp_path: Path) -> None:
    ids = [[1, 2, 3], [], [7] * 5]
    types = (pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_(pa.uint16()))
    for i, kind in enumerate(types):
        table = pa.table({"token_ids": pa.array(ids, kind), "id": ["a", None, "c"]})
        pq.write_table(table.slice(0), tmp_path / f"{i}.parquet", row_group_size=2)
    records = [r for r in _read(cut_corpus(str(tmp_path), COLUMNS)) if isinstance(r, Record)]
    assert [r.ids.tolist() for r in records] == 3 * ids  # type: ignore[union-attr]
    assert [r.name for r in records] == 3 * ["a", None, "c"]
    assert all(r.ids.dtype == np.int64 for r in records)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{broken", "not_json"),
        (b"[1]", "not_an_object"),
        (b'{"text": "\xff"}', "not_utf8"),
        (b'{"body": "x"}', "no_text_and_no_ids"),
        (b'{"text": 5}', "no_text_and_no_ids"),
        (b'{"token_ids": [1, -2]}', "no_text_and_no_ids"),
        (b'{"text": "a \\ud800 b"}', "invalid_unicode"),
    ],
)
def test_a_bad_line_is_one_document_and_no_more(line: bytes, reason: str, tmp_path: Path) -> None:
    good = b'{"text": "good"}\n'
    items = _read(
        cut_corpus(str(_write(tmp_path / "a.jsonl", good + line + b"\n" + good)), COLUMNS)
    )
    assert [isinstance(item, Record) for item in items] == [True, False, True]
    assert isinstance(items[1], Failure)
    assert items[1].error.reason == reason
    assert items[1].place == 2


def test_a_truncated_file_gives_what_can_be_read_and_says_so(tmp_path: Path) -> None:
    whole = gzip.compress(JSONL)
    table = pa.Table.from_pylist([{"text": text} for text in TEXTS])
    pq.write_table(table, tmp_path / "a.parquet", compression="none", row_group_size=10)
    raw = bytearray((tmp_path / "a.parquet").read_bytes())
    raw[len(raw) // 3 : len(raw) // 3 + 40] = bytes(40)
    with pa.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as stream:
        stream.write(JSONL)
    packed = (tmp_path / "a.jsonl.zst").read_bytes()
    for path in (
        _write(tmp_path / "a.jsonl.gz", whole[: len(whole) // 2]),
        _write(tmp_path / "b.jsonl.gz", whole[:-4]),
        _write(tmp_path / "c.jsonl.gz", b"no gzip"),
        _write(tmp_path / "b.jsonl.zst", packed[: len(packed) // 2]),
        _write(tmp_path / "b.parquet", bytes(raw)),
    ):
        *records, last = _read(cut_corpus(str(path), COLUMNS))
        assert isinstance(last, Failure), path
        assert last.error.reason == "damaged_file"
        assert "not read from here to" in str(last.error)
        assert last.place > len(records)
        assert [r.text for r in records if isinstance(r, Record)] == TEXTS[: len(records)]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, message in (
        (str(tmp_path / "none.jsonl"), "no file or folder"),
        (str(tmp_path / "empty"), "holds no .jsonl"),
        (str(_write(tmp_path / "a.csv", b"x")), "expected .jsonl"),
        (f"datasets:{tmp_path / 'none'}", "cannot be read"),
        (f"file://{tmp_path}/none", "none"),
        ("nonsense://x", "nonsense"),
        (str(_write(tmp_path / "a.parquet", b"PAR1")), "damaged Parquet"),
    ):
        with pytest.raises(DocumentError, match=message):
            cut_corpus(source, COLUMNS)


def test_a_file_that_went_away_is_no_silent_gap(tmp_path: Path) -> None:
    (piece,) = cut_corpus(str(_write(tmp_path / "a.jsonl", JSONL)), COLUMNS).pieces
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(DocumentError, match="gone; it was there when the scan began"):
        list(read_piece(piece, COLUMNS))


def test_a_file_that_shrank_is_no_silent_gap(tmp_path: Path) -> None:
    pieces = cut_corpus(str(_write(tmp_path / "a.jsonl", JSONL)), COLUMNS, 300).pieces
    _write(tmp_path / "a.jsonl", JSONL[:100])
    for piece in (pieces[0], pieces[2]):
        with pytest.raises(DocumentError, match="has changed since the scan began"):
            list(read_piece(piece, COLUMNS))


def test_links_are_followed_and_what_cannot_be_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "beside" / "inner").mkdir(parents=True)
    _write(tmp_path / "beside" / "inner" / "a.txt", b"linked")
    (tmp_path / "corpus" / "to").symlink_to(tmp_path / "beside")
    (tmp_path / "beside" / "back").symlink_to(tmp_path / "corpus")
    assert _texts(tmp_path / "corpus") == ["linked"]
    (tmp_path / "corpus" / "z.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DocumentError, match=r"z\.txt is a link to .*nowhere, which is not there"):
        cut_corpus(str(tmp_path / "corpus"), COLUMNS)


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may list any folder, so that a refusal is played."""
    (tmp_path / "closed").mkdir()
    _write(tmp_path / "a.txt", b"x")
    listed = os.scandir

    def refusing(folder: Any) -> Any:
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DocumentError, match=r"cannot list .*closed: Permission denied"):
        cut_corpus(str(tmp_path), COLUMNS)


def test_endings_count_in_either_case_and_other_files_are_named(tmp_path: Path) -> None:
    _write(tmp_path / "A.JSONL", JSONL)
    _write(tmp_path / "B.Jsonl.GZ", gzip.compress(JSONL))
    _write(tmp_path / "c.csv", b"x")
    corpus = cut_corpus(str(tmp_path), COLUMNS)
    assert len(_read(corpus)) == 2 * len(TEXTS)
    assert corpus.not_read == (str(tmp_path / "c.csv"),)


def test_where_a_document_stands() -> None:
    kinds: dict[Any, str] = {
        "jsonl": "x, line 5", "parquet": "x, row 5", "text": "x", "rows": "datasets:x, row 4",
    }  # fmt: skip
    for kind, expected in kinds.items():
        assert where(Piece("x", kind, 0, 1, 1), 5) == expected


def test_an_empty_file_is_no_packed_file(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        (failure,) = _read(cut_corpus(str(_write(tmp_path / name, b"")), COLUMNS))
        assert isinstance(failure, Failure)
        assert failure.error.reason == "damaged_file"
        assert "the file is empty" in str(failure.error)
    assert _texts(_write(tmp_path / "a.jsonl", b"")) == []


def test_a_packed_file_cut_off_at_any_byte_says_so(tmp_path: Path) -> None:
    with pa.CompressedOutputStream(str(tmp_path / "whole.zst"), "zstd") as stream:
        stream.write(JSONL[:200])
    for name, whole in (
        ("a.jsonl.gz", gzip.compress(JSONL[:200])),
        ("a.jsonl.zst", (tmp_path / "whole.zst").read_bytes()),
    ):
        for end in range(len(whole)):
            *_, last = _read(cut_corpus(str(_write(tmp_path / name, whole[:end])), COLUMNS))
            assert isinstance(last, Failure)
            assert last.error.reason == "damaged_file", (name, end)


def test_a_pipe_is_no_corpus_and_is_not_waited_for(tmp_path: Path) -> None:
    corpus, pipe = tmp_path / "corpus", tmp_path / "pipe.jsonl"
    corpus.mkdir()
    os.mkfifo(pipe)
    (corpus / "to.jsonl").symlink_to(pipe)
    for source in (pipe, corpus):
        with pytest.raises(DocumentError, match="is a pipe, socket or device"):
            cut_corpus(str(source), COLUMNS)


def test_links_that_lead_to_each_other_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.jsonl")
    with pytest.raises(DocumentError, match=r"cannot list .*a\.jsonl: Too many levels"):
        cut_corpus(str(tmp_path), COLUMNS)


@pytest.mark.parametrize("shard_bytes", [50, 400, 10**6])
def test_a_line_that_cannot_be_held_is_counted_and_passed_over(
    shard_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detect.scanning.reading.LONGEST", 300)
    monkeypatch.setattr("detect.scanning.reading._CHUNK", 7)
    lines = [LINES[0], "x" * 2_000, LINES[1], "y" * 301, LINES[2], "z" * 300]
    raw = "\n".join(lines).encode()
    with pa.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as stream:
        stream.write(raw)
    for path in (
        _write(tmp_path / "a.jsonl", raw),
        _write(tmp_path / "a.jsonl.gz", gzip.compress(raw)),
        tmp_path / "a.jsonl.zst",
    ):
        found = _read(cut_corpus(str(path), COLUMNS, shard_bytes))
        told = [x.error.reason if isinstance(x, Failure) else x.text for x in found]
        assert told == [TEXTS[0], "too_long", TEXTS[1], "too_long", TEXTS[2], "not_json"]
    (failure,) = _read(cut_corpus(str(_write(tmp_path / "a.txt", raw)), COLUMNS))
    assert isinstance(failure, Failure)
    assert failure.error.reason == "too_long"


def test_a_hole_of_many_shards_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece looks for its first line no further than its own end."""
    monkeypatch.setattr("detect.scanning.reading.LONGEST", 1_000)
    monkeypatch.setattr("detect.scanning.reading._CHUNK", 100)
    path, n_read = _write(tmp_path / "a.jsonl", b""), 0
    with path.open("wb") as file:
        file.truncate(40_000)
    corpus = cut_corpus(str(path), COLUMNS, 1_000)
    assert len(corpus.pieces) == 40

    class Counting:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *exception: object) -> None:
            self._file.close()

        def readline(self, size: int) -> Any:
            nonlocal n_read
            read = self._file.readline(size)
            n_read += len(read)
            return read

    monkeypatch.setattr(
        "detect.scanning.reading.open_binary", lambda source: Counting(Path(source).open("rb"))
    )
    assert len(_read(corpus)) == 1
    assert n_read < 2.2 * 40_000


def test_a_damaged_page_with_a_checksum_gives_no_other_values(tmp_path: Path) -> None:
    ids = np.arange(4_000, dtype=np.int32).reshape(40, 100) % 5
    table = pa.table({"token_ids": pa.array(ids.tolist(), pa.list_(pa.int32()))})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    (failure,) = _read(cut_corpus(str(_write(path, bytes(raw))), COLUMNS))
    assert isinstance(failure, Failure)
    assert failure.error.reason == "damaged_file"
    assert "CRC" in str(failure.error)
