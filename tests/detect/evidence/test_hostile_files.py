"""Files that are made to break or hold up what reads them, in bundles that are signed well."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.evidence.apart import verify_apart
from detect.evidence.checks import Outcome
from detect.evidence.inputs import Input, hash_tree
from detect.evidence.limits import LEAST_MEMORY, Limits
from detect.evidence.request import VerifyRequest
from detect.evidence.rerun_line import rerun_line
from tests.detect.evidence.acts import bundled, forged, run

# Memory in which an honest scan fits.
LIMITS = Limits(memory=LEAST_MEMORY, seconds=120, disk=64 << 20)


@pytest.fixture(scope="module")
def scanned(place: Path) -> Path:
    return bundled(place, "scanned", "scan", "corpus.jsonl", "--workers", "1")


def _with_corpus(scanned: Path, place: Path, tmp_path: Path, name: str) -> tuple[Path, Path]:
    """Return a copy of the bundle whose corpus has another name, and the corpus's place."""
    case = Path(shutil.copytree(scanned, tmp_path / "case"))
    old = case / "inputs" / "source" / "corpus.jsonl"
    new = old.rename(old.with_name(name))
    return case, new


def _signed(case: Path, place: Path, name: str) -> None:
    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        for one in manifest["inputs"]:
            if one["name"] == "source":
                one["path"] = f"inputs/source/{name}"
        inputs = [Input.from_dict(one) for one in manifest["inputs"]]
        manifest["rerun"] = rerun_line(manifest["command"], manifest["options"], inputs)

    forged(case, place, changed)


def _bomb(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        file.write(b'{"text": "')
        for _ in range(80):
            file.write(b"0" * (1 << 20))


def _endless_lines(path: Path) -> None:
    """Lines enough for an hour, packed to little."""
    line = json.dumps({"text": "w001 " * 50}).encode() + b"\n"
    path.write_bytes(gzip.compress(line * 400) * 2000)


def _zstd_bomb(path: Path) -> None:
    import pyarrow

    with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
        for _ in range(80):
            file.write(b"0" * (1 << 20))


def _parquet(path: Path, texts: Any) -> bytes:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": texts}), path)
    return path.read_bytes()


def _parquet_bomb(path: Path) -> None:
    """A page that names one text of 8 MiB a thousand times, by a number each."""
    import pyarrow

    indices = pyarrow.array([0] * 4096, pyarrow.int32())
    _parquet(path, pyarrow.DictionaryArray.from_arrays(indices, ["w" * (8 << 20)]))


def _parquet_cut(path: Path) -> None:
    path.write_bytes(_parquet(path, ["w001 w002"] * 100)[:-40])


def _parquet_lies(path: Path) -> None:
    """A footer longer than the file."""
    content = _parquet(path, ["w001 w002"] * 100)
    path.write_bytes(content[:-8] + struct.pack("<I", 0xFFFFFFF0) + b"PAR1")


def _parquet_damaged(path: Path) -> None:
    content = bytearray(_parquet(path, [f"w{i:03d}" for i in range(300)]))
    rng = np.random.default_rng(0)
    for place in rng.integers(4, len(content) - 8, 20):
        content[place] = int(rng.integers(256))
    path.write_bytes(content)


def _lines(*lines: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    return write


# How the corpus is called, what makes it, how the re-run of its test ends.
CORPORA: dict[str, tuple[str, Callable[[Path], None], Outcome]] = {
    "gzip bomb": ("c.jsonl.gz", _bomb, Outcome.FAILED),
    "zstd bomb": ("c.jsonl.zst", _zstd_bomb, Outcome.FAILED),
    "lines without end": ("c.jsonl.gz", _endless_lines, Outcome.STOPPED),
    "Parquet bomb": ("c.parquet", _parquet_bomb, Outcome.STOPPED),
    "Parquet cut off": ("c.parquet", _parquet_cut, Outcome.FAILED),
    "Parquet with a footer that lies": ("c.parquet", _parquet_lies, Outcome.FAILED),
    "Parquet damaged": ("c.parquet", _parquet_damaged, Outcome.FAILED),
    "deep JSON": ("c.jsonl", _lines('{"text":' + "[" * 100_000), Outcome.FAILED),
    "numbers that are none": ("c.jsonl", _lines('{"text": NaN}'), Outcome.FAILED),
    "a number without end": ("c.jsonl", _lines('{"text": ' + "9" * 100_000 + "}"), Outcome.FAILED),
    "ids that are no tokens": ("c.jsonl", _lines('{"token_ids": [4294967295]}'), Outcome.FAILED),
    "half a character": ("c.jsonl", _lines('{"text": "\\ud800"}'), Outcome.FAILED),
}
# By default what a limit must end: the others with HEIRMARK_FUZZ.
_ALWAYS = {"lines without end", "Parquet bomb"}


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_that_breaks_what_reads_it_is_answered(
    name: str, scanned: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in _ALWAYS and "HEIRMARK_FUZZ" not in os.environ:
        pytest.skip("only with HEIRMARK_FUZZ")
    file, write, outcome = CORPORA[name]
    case, corpus = _with_corpus(scanned, place, tmp_path, file)
    write(corpus)
    _signed(case, place, file)
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    limits = replace(LIMITS, seconds=3) if name == "lines without end" else LIMITS
    found = verify_apart(VerifyRequest(case, key_place=str(place / "k.json")), limits)
    assert found.checks[-1].outcome is outcome, found.checks
    assert found.line.startswith("not finished" if outcome is Outcome.STOPPED else "NOT verified")
    assert list(made.iterdir()) == []


def _header(
    path: Path, change: Callable[[dict[str, Any]], object], length: int | None = None
) -> None:
    """Change the header of a safetensors file: JSON behind its length."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header)
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", length or len(written)) + written + content[8 + size :])


def _offsets(*offsets: int) -> Callable[[dict[str, Any]], object]:
    def change(header: dict[str, Any]) -> None:
        next(one for one in header.values() if "data_offsets" in one)["data_offsets"] = offsets

    return change


def _gguf(path: Path, n_tensors: int, n_fields: int) -> None:
    path.unlink()
    path.with_name("m.gguf").write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, n_tensors, n_fields))


def _config(path: Path, **values: object) -> None:
    place = path.with_name("config.json")
    place.write_text(json.dumps({**json.loads(place.read_text()), **values}))


# What is done to a model's weights; `--input` names it, as the signer says where it is.
MODELS: dict[str, Callable[[Path], object]] = {
    "negative offsets": lambda p: _header(p, _offsets(-8, 8)),
    "offsets over each other": lambda p: _header(p, _offsets(0, 1 << 20)),
    "offsets past the end": lambda p: _header(p, _offsets(0, 1 << 60)),
    "a header past the end": lambda p: _header(p, len, 1 << 62),
    "a shape past all memory": lambda p: _header(
        p, lambda h: next(o for o in h.values() if "shape" in o).update(shape=[1 << 40, 1 << 40])
    ),
    "a config past all memory": lambda p: _config(p, hidden_size=1 << 40),
    "code of its own": lambda p: _config(p, auto_map={"AutoModelForCausalLM": "evil.M"}),
    "GGUF with too many tensors": lambda p: _gguf(p, 1 << 62, 0),
    "GGUF with too many fields": lambda p: _gguf(p, 0, 1 << 62),
}


@pytest.mark.skipif("HEIRMARK_FUZZ" not in os.environ, reason="only with HEIRMARK_FUZZ")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_breaks_what_loads_it_is_answered(
    name: str, place: Path, model_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    reading = tmp_path / "reading.jsonl"
    reading.write_text(json.dumps({"prompt": "p", "text": "A boy counted the nets."}) + "\n")
    words = ["probe", model_folder, "--access", "weights", "--reading", reading, "--decoys", "9"]
    words += ["--key", place / "k.json", "--tokenizer", tokenizer_folder]
    case = tmp_path / "case"
    done = run("bundle", "-o", case, "--sign", place / "s.pem", "--", *words)
    assert done.exit_code == 0, done.output
    hostile = Path(shutil.copytree(model_folder, tmp_path / "hostile"))
    MODELS[name](hostile / "model.safetensors")
    suspect = hostile / "m.gguf" if (hostile / "m.gguf").exists() else hostile

    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        one = next(one for one in manifest["inputs"] if one["name"] == "suspect")
        files = hash_tree(suspect, None if suspect.is_file() else (".safetensors", ".json"))
        one.update(files={n: f.to_dict() for n, f in files.items()}, is_folder=suspect.is_dir())
        one["path"] = f"inputs/suspect/{suspect.name}"
        inputs = [Input.from_dict(one) for one in manifest["inputs"]]
        manifest["rerun"] = rerun_line(manifest["command"], manifest["options"], inputs)

    forged(case, place, changed)
    options = ["--memory", "4G", "--time-limit", "60s", "--input", f"suspect={suspect}"]
    done = run("verify", case, "--key", place / "k.json", *options)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    print(done.exit_code, name, done.stdout)
    assert done.exit_code in (1, 4), done.output
    assert len(done.stdout.splitlines()) == 1
