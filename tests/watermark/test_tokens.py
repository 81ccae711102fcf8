"""The tokenizer wrapper and the file helpers: exact pieces, fingerprints, errors that say where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark.errors import ConfigError, DocumentError, FingerprintError, ResultError
from watermark.storage.files import (
    atomic_writer,
    dump_json,
    read_json,
    read_prompts,
    read_records,
    read_text_file,
)
from watermark.tokens import TextTokenizer, check_fingerprint, load_tokenizer


@given(text=st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_pieces_join_to_the_text(tokenizer: TextTokenizer, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    ids, pieces = tokenizer.encode(text), tokenizer.pieces(text)
    assert "".join(pieces) == text
    assert len(pieces) == len(ids)


def test_ids_survive_decoding(tokenizer: TextTokenizer) -> None:
    text = "The harbour was quiet: 漢字 and 🙂."
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids.tolist()) == text
    assert [a.tolist() for a in tokenizer.encode_many([text, ""])] == [ids.tolist(), []]
    assert tokenizer.special_ids == {0, 1}


def test_the_fingerprint_ignores_what_does_not_change_ids(
    tokenizer: TextTokenizer, tokenizer_folder: Path, tmp_path: Path
) -> None:
    content = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    for change, same in (({"decoder": None}, True), ({"pre_tokenizer": None}, False)):
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps({**content, **change}), encoding="utf-8")
        assert (load_tokenizer(path).fingerprint == tokenizer.fingerprint) == same


def test_the_fingerprint_reads_both_ways_of_writing_merges(
    tokenizer: TextTokenizer, tokenizer_folder: Path, tmp_path: Path
) -> None:
    content = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert all(isinstance(merge, list) for merge in content["model"]["merges"])
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert load_tokenizer(path).fingerprint == tokenizer.fingerprint


def test_tokens_that_share_a_character_have_one_piece(tokenizer: TextTokenizer) -> None:
    pieces = tokenizer.pieces("a🙂b")
    assert len(pieces) > 3
    assert [piece for piece in pieces if piece] == ["a", "🙂", "b"]


def test_another_fingerprint_is_refused(tokenizer: TextTokenizer) -> None:
    check_fingerprint(tokenizer, None)
    check_fingerprint(tokenizer, tokenizer.fingerprint)
    with pytest.raises(FingerprintError, match="sha256:0000"):
        check_fingerprint(tokenizer, "sha256:" + "0" * 64)


@pytest.mark.parametrize("content", ["", "{", '{"model": {}}', "[]"])
def test_a_damaged_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "x.txt"
    with atomic_writer(path) as file:
        file.write("old")
    for interruption in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(interruption), atomic_writer(path) as file:  # noqa: PT012
            file.write("half")
            raise interruption
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]
    with pytest.raises(DocumentError, match="cannot write"), atomic_writer(path / "y") as file:
        file.write("never")


def test_a_device_is_written_to_and_a_link_followed(tmp_path: Path) -> None:
    device = Path("/dev/null")
    with atomic_writer(device) as file:
        file.write("gone")
    assert device.is_char_device()
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic_writer(tmp_path / "link") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_text_that_is_not_utf8_is_located(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfgood\nbad \xff\n")
    with pytest.raises(DocumentError, match=r"line 2: not UTF-8 at byte 12 \(0xff\)"):
        read_text_file(path)
    path.write_bytes(b"\xef\xbb\xbfgood")
    assert read_text_file(path) == "good"


def test_prompts_are_lines_or_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("One\n\n  \nTwo\n")
    assert read_prompts(path) == ["One", "Two"]
    path.write_text('{"prompt": "One"}\n{"prompt": "Two\\nlines"}\n')
    assert read_prompts(path) == ["One", "Two\nlines"]
    for bad, message in (("", "no prompts"), ('{"prompt": "x"}\n{"text": "y"}', "line 2")):
        path.write_text(bad)
        with pytest.raises(DocumentError, match=message):
            read_prompts(path)


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a\u2028b", "text": "c\x85d"}\r\n', encoding="utf-8", newline="")
    assert read_prompts(path) == ["a\u2028b"]
    assert read_records(path, ("prompt", "text")) == [("a\u2028b", "c\x85d")]


def test_deep_nesting_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("[" * 100_000)
    with pytest.raises(DocumentError, match="not JSON"):
        read_json(path)
    with pytest.raises(DocumentError, match="line 1"):
        read_prompts(path)


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ResultError):
        dump_json({"p": float("nan")})
    (tmp_path / "x.json").write_text("{oops")
    with pytest.raises(DocumentError, match="not JSON"):
        read_json(tmp_path / "x.json")
