"""Time stamps from a real authority: openssl's own, with a root of the test's making."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.authority import Authority, make_authority
from watermark.commitments.log import Entry, read_log
from watermark.commitments.timestamps import (
    ask_authority,
    find_stamped,
    stamps_beside,
    store_stamp,
    timestamp_request,
    verify_stamp,
    verify_stamps,
)
from watermark.commitments.writing import append
from watermark.errors import CommitmentError

COMMITMENT = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    for i in range(3):
        append(path, f"hm1-{i:020x}", COMMITMENT)
    return path


@pytest.fixture(scope="module")
def head(log: Path) -> Entry:
    return read_log(log)[-1]


@pytest.fixture(scope="module")
def response(authority: Authority, head: Entry) -> bytes:
    return authority.answer(timestamp_request(head))


def test_a_stamp_is_verified(authority: Authority, log: Path, head: Entry, response: bytes) -> None:
    stamp = verify_stamp(response, head, authority.root.read_bytes())
    assert stamp.sequence == 2
    assert abs(stamp.time - datetime.now(UTC)) < timedelta(minutes=2)
    assert find_stamped(response, read_log(log)) == head


def test_openssl_agrees(authority: Authority, head: Entry, response: bytes) -> None:
    """The stamp is over the line's own bytes: `tail -n 1` of the log is all that it takes."""
    assert authority.verifies(head.line, response)
    assert not authority.verifies(head.line + b"\n", response)


def test_a_request_holds_the_hash_and_no_more(head: Entry) -> None:
    request = timestamp_request(head)
    assert bytes.fromhex(head.digest[7:]) in request
    assert head.key_id.encode() not in request
    assert len(request) < 100
    assert request != timestamp_request(head)


def test_another_authority_is_not_believed(
    authority: Authority, stranger: Authority, head: Entry, response: bytes
) -> None:
    with pytest.raises(CommitmentError, match="not signed by an authority") as caught:
        verify_stamp(response, head, stranger.root.read_bytes())
    assert "ErrorStack" not in str(caught.value)
    forged = stranger.answer(timestamp_request(head))
    with pytest.raises(CommitmentError, match="not signed by an authority"):
        verify_stamp(forged, head, authority.root.read_bytes())


def test_a_certificate_for_something_else_does_not_stamp(authority: Authority, head: Entry) -> None:
    """A root signs for many purposes; only certificates for time stamping count."""
    authority.openssl(
        "x509", "-req", "-in", "stamping.csr", "-CA", "root.pem", "-CAkey", "root.key", "-out",
        "signing.pem", "-days", "2", "-extfile", "tsa.cnf", "-extensions", "signing",
    )  # fmt: skip
    both = authority.root.read_bytes() + (authority.folder / "signing.pem").read_bytes()
    bare = authority.answer(timestamp_request(head, with_certificates=False))
    with pytest.raises(CommitmentError, match="comes without certificates; add the authority's"):
        verify_stamp(bare, head, both)


def test_a_stamp_without_certificates(
    authority: Authority, stranger: Authority, head: Entry
) -> None:
    bare = authority.answer(timestamp_request(head, with_certificates=False))
    own = authority.certificate.read_bytes()
    assert verify_stamp(bare, head, authority.root.read_bytes() + own).sequence == 2
    with pytest.raises(CommitmentError, match="not signed by an authority"):
        verify_stamp(bare, head, stranger.root.read_bytes() + own)


def test_a_stamp_of_another_line(
    authority: Authority, log: Path, head: Entry, response: bytes
) -> None:
    first = read_log(log)[0]
    with pytest.raises(CommitmentError, match="and entry 0 has the hash sha256:"):
        verify_stamp(response, first, authority.root.read_bytes())
    with pytest.raises(CommitmentError, match="is the hash of no line of this log"):
        find_stamped(response, read_log(log)[:2])


def test_a_cut_answer(authority: Authority, head: Entry, response: bytes) -> None:
    root = authority.root.read_bytes()
    for length in (0, 1, 9, 100, len(response) // 2, len(response) - 1):
        with pytest.raises(CommitmentError, match="no intact answer"):
            verify_stamp(response[:length], head, root)
    with pytest.raises(CommitmentError, match="no intact answer"):
        verify_stamp(response + b"x", head, root)


def test_changed_answers_never_say_something_else(
    authority: Authority, head: Entry, response: bytes
) -> None:
    """A few bytes are outside the signature (the algorithm's name); what it says is not."""
    root, rng = authority.root.read_bytes(), np.random.default_rng(0)
    expected, n_refused = verify_stamp(response, head, root), 0
    for _ in range(300):
        changed = bytearray(response)
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
        try:
            assert verify_stamp(bytes(changed), head, root) == expected
        except CommitmentError:
            n_refused += 1
    assert n_refused > 270


def test_a_refusal_is_said(authority: Authority, head: Entry) -> None:
    request = bytearray(timestamp_request(head))
    # SHA-224, which the authority does not take (the last byte of the algorithm's number).
    position = request.index(bytes.fromhex("608648016503040201")) + 8
    request[position] = 4
    with pytest.raises(CommitmentError, match=r"granted no time stamp \(status 2\)"):
        find_stamped(authority.answer(bytes(request)), [head])


@pytest.mark.parametrize("pem", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAA\n"])
def test_no_certificate(head: Entry, response: bytes, pem: bytes) -> None:
    with pytest.raises(CommitmentError, match="certificates in PEM"):
        verify_stamp(response, head, pem)


def test_stamps_stand_beside_their_log(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    log, root = tmp_path / "log.jsonl", authority.root.read_bytes()
    for i in range(12):
        entry = append(log, f"hm1-{i:020x}", COMMITMENT)
        if i in (2, 11):
            path = store_stamp(log, entry, authority.answer(timestamp_request(entry)))
            assert path == tmp_path / f"log.jsonl.{i}.tsr"
    (tmp_path / "log.jsonl.x.tsr").write_text("not ours")
    entries = read_log(log)
    assert [sequence for sequence, _ in stamps_beside(log)] == [2, 11]
    assert [stamp.sequence for stamp in verify_stamps(log, entries, root)] == [2, 11]
    with pytest.raises(CommitmentError, match="has a time stamp already"):
        store_stamp(log, entries[2], b"later")
    with pytest.raises(CommitmentError, match="has only 11 entries: its end was cut off"):
        verify_stamps(log, entries[:11], root)
    with pytest.raises(CommitmentError, match="entry 2 is not signed"):
        verify_stamps(log, entries, stranger.root.read_bytes())


class _Handler(BaseHTTPRequestHandler):
    authority: Authority

    def do_POST(self) -> None:
        request = self.rfile.read(int(self.headers["Content-Length"]))
        fits = self.headers["Content-Type"] == "application/timestamp-query"
        status = 200 if fits and self.path == "/tsr" else 503
        answer = self.authority.answer(request)
        self.send_response(status)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(authority: Authority) -> Iterator[str]:
    _Handler.authority = authority
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_authority_is_asked_by_http(address: str, authority: Authority, head: Entry) -> None:
    answer = ask_authority(f"{address}/tsr", timestamp_request(head))
    assert verify_stamp(answer, head, authority.root.read_bytes()).sequence == 2
    with pytest.raises(CommitmentError, match=r"gave no time stamp: .*503") as caught:
        ask_authority(f"{address}/other", b"x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "ftp://x/", "", "http://[", "nonsense"])
def test_an_authority_that_is_not_there(url: str) -> None:
    with pytest.raises(CommitmentError, match="gave no time stamp"):
        ask_authority(url, b"x")
