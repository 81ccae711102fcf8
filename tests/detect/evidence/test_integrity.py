"""Any changed byte, file or name of a bundle is found and named."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_toto_attestation.v1.statement import Statement as Oracle
from in_toto_attestation.v1.statement_pb2 import Statement as Message

from detect.evidence import integrity
from detect.evidence.envelope import ENVELOPE_NAME, open_envelope
from detect.evidence.folder import Digest, digest_file
from detect.evidence.integrity import check_files, signed_statement
from detect.evidence.verifying import VerifyRequest, verify_bundle
from tests.detect.evidence.acts import failed, run, verified


def _line(case: Path) -> str:
    return verify_bundle(VerifyRequest(case)).line


def test_the_statement_is_one_of_in_toto(case: Path) -> None:
    """By in-toto's own package, which does not write it: its numbers all become floats."""
    from google.protobuf import json_format

    payload = open_envelope((case / ENVELOPE_NAME).read_bytes()).payload
    oracle = Oracle.copy_from_pb(json_format.Parse(payload, Message()))
    oracle.validate()
    assert oracle.pb.predicate_type == "urn:heirmark:evidence:v1"
    names = {subject.name for subject in oracle.pb.subject}
    assert names == {str(p.relative_to(case)) for p in case.rglob("*") if p.is_file()} - {
        ENVELOPE_NAME
    }


def test_every_single_byte_counts_and_its_place_is_named(case: Path) -> None:
    path = case / "inputs" / "text" / "text.txt"
    content = path.read_bytes()
    for place in (0, 63, 64, 1000, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 0x20
        path.write_bytes(changed)
        block = place // 64 * 64
        end = min(block + 63, len(content) - 1)
        assert f"text.txt was changed within bytes {block:,} to {end:,}" in _line(case)
    path.write_bytes(content + b"!")
    assert f"text.txt was changed from byte {len(content):,} on (+1 bytes)" in _line(case)
    path.write_bytes(content[:100] + content[101:])
    assert "from byte 64 on (-1 bytes)" in _line(case)
    path.write_bytes(b"")
    assert "text.txt was changed from byte 0 on" in _line(case)
    path.write_bytes(content)
    assert _line(case).startswith("intact")


def test_of_a_file_without_end_no_more_is_read_than_was_signed(
    case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = case / "inputs" / "text" / "text.txt"
    signed = path.stat().st_size
    os.truncate(path, 64 << 20)
    read: list[int] = []

    def counted(*given: Any, **named: Any) -> Digest:
        found = digest_file(*given, **named)
        read.append(found.size)
        return found

    monkeypatch.setattr(integrity, "digest_file", counted)
    assert f"text.txt was changed from byte {signed:,} on" in _line(case)
    assert signed in read
    assert max(read) < 1 << 20


def test_random_changes_are_all_found(case: Path) -> None:
    """The benchmark of the same name makes a thousand of them on a real bundle."""
    rng = np.random.default_rng(0)
    files = sorted(p for p in case.rglob("*") if p.is_file())
    for _ in range(60):
        path = files[rng.integers(len(files))]
        content = path.read_bytes()
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        assert path.name in _line(case)
        assert _line(case).startswith("NOT verified")
        path.write_bytes(content)


ENVELOPES: dict[str, Callable[[bytes], bytes]] = {
    "blank": lambda c: c.replace(b'":"', b'": "', 1),
    "line break": lambda c: c + b"\n",
    "no line break": lambda c: c[:-1],
    "key twice": lambda c: c.replace(b"{", b'{"payload":"",', 1),
    "unknown key": lambda c: c.replace(b"{", b'{"a":1,', 1),
    "escape": lambda c: c.replace(b"payloadType", b"p\\u0061yloadType"),
    "base64 padding": lambda c: c.replace(b'"}],', b'="}],', 1) if b'="}],' in c else c + b" ",
    "no signature": lambda c: _edited(c, signatures=[]),
    "two signatures": lambda c: _edited(c, signatures=json.loads(c)["signatures"] * 2),
    "other type": lambda c: _edited(c, payloadType="application/json"),
    "other payload": lambda c: _edited(c, payload=base64.b64encode(b"{}").decode()),
    "a number": lambda c: b"7\n",
    "nothing": lambda c: b"",
    "deep": lambda c: b"[" * 100_000,
    "not text": lambda c: b"\xff\xfe",
}


def _edited(content: bytes, **fields: object) -> bytes:
    from detect.evidence.canonical import canonical_json

    return canonical_json({**json.loads(content), **fields})


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_is_as_it_was_to_the_byte(name: str, case: Path) -> None:
    path = case / ENVELOPE_NAME
    path.write_bytes(ENVELOPES[name](path.read_bytes()))
    done = run("verify", case)
    assert done.exit_code == 1
    assert done.stdout.startswith("NOT verified: signature: ")


def test_bits_that_base64_ignores_are_found(case: Path) -> None:
    """An Ed25519 signature ends in "==": four bits of the character before decode to nothing."""
    path = case / ENVELOPE_NAME
    content = path.read_bytes()
    signature = json.loads(content)["signatures"][0]["sig"]
    assert signature.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(signature[-3]) ^ 1]
    twin = signature[:-3] + other + "=="
    assert base64.b64decode(twin) == base64.b64decode(signature)
    path.write_bytes(content.replace(signature.encode(), twin.encode()))
    assert _line(case).startswith("NOT verified: signature: ")


def _link(case: Path) -> None:
    (case / "inputs" / "text" / "text.txt").rename(case.parent / "text.txt")
    (case / "inputs" / "text" / "text.txt").symlink_to(case.parent / "text.txt")


def _linked_folder(case: Path) -> None:
    (case / "inputs" / "text").rename(case.parent / "text")
    (case / "inputs" / "text").symlink_to(case.parent / "text")


def _pipe(case: Path) -> None:
    (case / "result.json").unlink()
    os.mkfifo(case / "result.json")


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda c: (c / "report.html").unlink(), "report.html is missing"),
    "extra": (lambda c: (c / "more.txt").write_text(""), "more.txt is not part"),
    "hidden": (lambda c: (c / ".more").write_text(""), "'.more' (a name"),
    "renamed": (lambda c: (c / "result.json").rename(c / "results.json"), "result.json is missing"),
    "link": (_link, "text.txt' (a link)"),
    "linked folder": (_linked_folder, "'inputs/text' (a link)"),
    "pipe": (_pipe, "'result.json' (no plain file)"),
    "line break": (lambda c: (c / "a\nb").write_text(""), r"'a\nb' (a name"),
    "folder": (lambda c: (c / "empty").mkdir(), "empty/ is not part"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_files_are_those_that_were_signed(name: str, case: Path, place: Path) -> None:
    change, message = FOLDERS[name]
    change(case)
    found = verified(case, place)
    assert message in failed(found)["files"]
    assert found["exit_code"] == 1


def test_who_signed_is_told_from_whether_it_holds(case: Path, place: Path) -> None:
    other = verified(case, place, "--signer", place / "t.pem.pub")
    assert failed(other).keys() == {"signer"}
    assert "the signature is valid, but ed25519:" in failed(other)["signer"]
    assert other["exit_code"] == 1
    both = ["--signer", place / "t.pem.pub", "--signer", place / "s.pem.pub"]
    assert verified(case, place, *both)["verified"]
    nobody = verified(case, place)
    assert "(nobody was named)" in nobody["line"]
    private = run("verify", case, "--signer", place / "s.pem")
    assert private.exit_code == 2
    assert "ends in .pub" in private.output
    assert "PRIVATE" not in private.output


def test_a_folder_without_a_bundle_is_not_verified(tmp_path: Path) -> None:
    done = run("verify", tmp_path)
    assert done.exit_code == 1
    assert done.output.startswith("NOT verified: signature: cannot read evidence.dsse.json")


def test_hashing_is_quick(case: Path) -> None:
    import time

    least = min(_seconds(case, time.perf_counter) for _ in range(5))
    assert least < 0.25  # 50 ms on a quiet machine


def _seconds(case: Path, clock: Callable[[], float]) -> float:
    started = clock()
    check_files(case, signed_statement(case))
    return clock() - started
