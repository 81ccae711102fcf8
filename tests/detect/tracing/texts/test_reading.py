"""Corpora as a scan reads them, in order, with every document's place."""

from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from detect.documents import Columns
from detect.tracing import reading
from detect.tracing.texts.reading import CorpusReader, SingleText, is_corpus
from watermark.errors import DocumentError
from watermark.tokens import TextTokenizer


def _all(reader: CorpusReader | SingleText, tokenizer: TextTokenizer) -> list[tuple[str, str, int]]:
    return [
        (document.id, Path(document.source).name, len(document.token_ids))
        for documents, _ in reader.batches(tokenizer)
        for document in documents
    ]


def _lines(n: int, first: int = 0) -> str:
    rows = [{"id": f"d{i}", "token_ids": [5] * (i + 1)} for i in range(first, first + n)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_pieces_are_read_in_order_and_places_count_on(
    tmp_path: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text(_lines(6) + "\n" + _lines(2, 6))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(_lines(2, 20).encode()))
    (tmp_path / "c.txt").write_text("The harbour")
    (tmp_path / "notes.md").write_text("not of the corpus")
    expected = [(f"d{i}", f"a.jsonl, line {i + 1 + (i > 5)}", i + 1) for i in range(8)]
    expected += [(f"d{i}", f"b.jsonl.gz, line {i - 19}", i + 1) for i in (20, 21)]
    expected += [("c.txt", "c.txt", len(tokenizer.encode("The harbour")))]
    for batch, shard in ((256, 1 << 24), (1, 1 << 24), (3, 100)):
        monkeypatch.setattr(reading, "_BATCH", batch)
        monkeypatch.setattr(reading, "cut_corpus", partial(reading_cut, shard_bytes=shard))
        reader = CorpusReader(str(tmp_path), Columns(), skips_bad=False)
        assert _all(reader, tokenizer) == expected
        assert [Path(name).name for name in reader.files_not_read] == ["notes.md"]
        assert reader.size == sum(n for _, n in reader.batches(tokenizer))


reading_cut = reading.cut_corpus


def test_parquet_rows_are_counted(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"text": ["The harbour", "A boy", "the nets"]})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    found = _all(CorpusReader(str(tmp_path / "t.parquet"), Columns(), skips_bad=False), tokenizer)
    assert [place for _, place, _ in found] == [f"t.parquet, row {i}" for i in (1, 2, 3)]


def test_a_damaged_file_is_named_first(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    good = _lines(300).encode()
    (tmp_path / "a.jsonl").write_bytes(b"{\n" * 30)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(good)[:-200])
    reader = CorpusReader(str(tmp_path), Columns(), skips_bad=True)
    _all(reader, tokenizer)
    left_out = reader.left_out.to_dict()
    assert left_out["n_damaged_files"] == 1
    assert left_out["reasons"] == {"not_json": 30}
    assert "b.jsonl.gz" in left_out["examples"][0]
    assert len(left_out["examples"]) == 20


def test_a_corpus_that_changes_meanwhile_is_no_result(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(_lines(3))
    batches = CorpusReader(str(path), Columns(), skips_bad=False).batches(tokenizer)
    next(batches)
    path.write_text(_lines(4))
    with pytest.raises(DocumentError, match="changed"):
        next(batches)


def test_ids_below_zero_are_bad(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"token_ids": [[5, -1], [5]]}), tmp_path / "t.parquet")
    reader = CorpusReader(str(tmp_path / "t.parquet"), Columns(), skips_bad=True)
    assert len(_all(reader, tokenizer)) == 1
    assert reader.left_out.reasons == {"id_out_of_vocabulary": 1}


def test_a_text_is_a_file_of_any_other_ending(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    for name in ("a.txt", "leak.md", "leak"):
        (tmp_path / name).write_text("The harbour was quiet")
        assert not is_corpus(str(tmp_path / name))
        (found,) = _all(SingleText(str(tmp_path / name)), tokenizer)
        assert found == (name, name, len(tokenizer.encode("The harbour was quiet")))
    assert not is_corpus("-")
    for name in ("a.jsonl", "A.PARQUET", "folder", "datasets:x", "s3://bucket/a.txt"):
        assert is_corpus(name if ":" in name else str(tmp_path / name))
    assert np.array_equal(tokenizer.encode(""), [])
