"""What a signer who means no good can do: contents changed, digests and signature right again.

Every mutation takes a folder with a bundle and a generator of random numbers, changes one thing,
and returns its name. `sign` then makes the statement fit, by a key of the signer's own.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detect.evidence.canonical import canonical_json
from detect.evidence.envelope import ENVELOPE_NAME, open_envelope, seal
from detect.evidence.manifest import MANIFEST_NAME
from detect.evidence.names import REPORT_NAME, RESULT_NAME
from detect.evidence.signing_keys import load_signing_key, raw_public
from detect.evidence.writing import sign_folder
from detect.reporting import render_report

Rng = np.random.Generator
Mutation = Callable[[Path, Rng], str]


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


# Values for any place in any JSON.
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, -1e308, 5e-324, 2**31, 2**63, -(2**64), 10**400,
    10**4000, "", "x", "x" * 100_000, "\x1b[2J\x07\r\n", "\u202e\u2066\u200b", "\ud800", "NaN", "0",
    "../../etc/passwd", "/etc/passwd", "@/etc/passwd", "--output=/tmp/x", "-", "file:///etc/passwd",
    "env:HOME", "http://127.0.0.1:9/", "{{7*7}}", "<script>", [], {}, [None], [[]], {"": None},
    {"a": {"b": 1}}, [0] * 1000, [1, 2, 3], {"\x1b": "\x1b"}, _nested(150), _nested(600),
]  # fmt: skip
# Options that no bundle may give, by their names in Python.
OPTIONS = ["output", "work", "table", "profiles_path", "state_path", "key_path", "as_json",
           "address", "registry", "picture", "workers", "preset_name", "--output", "@file",
           "help"]  # fmt: skip
LITERALS = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "9" * 100_000, "-0", '"\\ud800"',
            "[" * 100_000, '{"a":' * 50_000, "\x00", "\ufeff{}", "true", "'x'"]  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of JSON values with every key or index in it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _changed(value: Any, rng: Rng) -> str:
    places = list(_places(value))
    container, key = places[int(rng.integers(len(places)))]
    kind = rng.choice(["value", "value", "value", "delete", "add", "double"])
    if kind == "delete":
        del container[key]
    elif kind == "double" and isinstance(container, list):
        container *= 2
    elif kind == "add" and isinstance(container, dict):
        container[str(rng.choice(["x", "", "\x1b", "output", "schema"]))] = _value(rng)
    else:
        container[key] = _value(rng)
    return f"{kind} {key!r}"


def _value(rng: Rng) -> Any:
    return VALUES[int(rng.integers(len(VALUES)))]


def _dump(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def _any_json(case: Path, name: str, rng: Rng) -> str:
    path = case / name
    value = json.loads(path.read_text(encoding="utf-8"))
    said = _changed(value, rng)
    path.write_bytes(_dump(value))
    return f"{name}: {said}"


def manifest(case: Path, rng: Rng) -> str:
    return _any_json(case, MANIFEST_NAME, rng)


def result(case: Path, rng: Rng) -> str:
    said = _any_json(case, RESULT_NAME, rng)
    # A page that fits, so that more than the page is reached.
    with contextlib.suppress(Exception):
        page = render_report(json.loads((case / RESULT_NAME).read_text()))
        (case / REPORT_NAME).write_text(page)
    return said


def tokenizer(case: Path, rng: Rng) -> str:
    said = _any_json(case, "inputs/tokenizer/tokenizer.json", rng)
    _bind(case)
    return said


def config(case: Path, rng: Rng) -> str:
    return _any_json(case, "inputs/config/config.json", rng)


def _bind(case: Path) -> None:
    """Let the manifest name the tokenizer that is there."""
    from watermark.tokens import load_tokenizer

    path = case / MANIFEST_NAME
    said = json.loads(path.read_text())
    with contextlib.suppress(BaseException):
        place = case / "inputs" / "tokenizer" / "tokenizer.json"
        said["tokenizer_fingerprint"] = load_tokenizer(place).fingerprint
    path.write_bytes(_dump(said))


def options(case: Path, rng: Rng) -> str:
    """Options that are no bundle's, and values of those that are."""
    path = case / MANIFEST_NAME
    said = json.loads(path.read_text())
    names = [*OPTIONS, *said["options"]]
    name = names[int(rng.integers(len(names)))]
    said["options"][name] = _value(rng)
    if rng.integers(4) == 0:
        said["command"] = str(
            rng.choice(["report", "demo", "bundle", "verify", "keys new", "locate"])
        )
    path.write_bytes(_dump(said))
    return f"options: {name}"


def literal(case: Path, rng: Rng) -> str:
    """JSON as no writer of ours would write it: in the place of a value, or a key that is twice."""
    names = [MANIFEST_NAME, RESULT_NAME, "inputs/config/config.json",
             "inputs/tokenizer/tokenizer.json"]  # fmt: skip
    path = case / names[int(rng.integers(len(names)))]
    text = path.read_text()
    put = LITERALS[int(rng.integers(len(LITERALS)))]
    colons = [i for i, c in enumerate(text) if c == ":"]
    place = colons[int(rng.integers(len(colons)))] + 1
    end = min((i for c in ",}\n" if (i := text.find(c, place)) > 0), default=place)
    kind = rng.integers(3)
    if kind == 0:
        text = put
    elif kind == 1:
        text = text.replace("{", '{"verdict": ' + put + ",", 1)
    else:
        text = text[:place] + put + text[end:]
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return f"{path.name}: literal {put[:20]!r}"


def file_bytes(case: Path, rng: Rng) -> str:
    """Bytes of any file changed, cut off or repeated."""
    files = sorted(p for p in case.rglob("*") if p.is_file() and p.name != ENVELOPE_NAME)
    path = files[int(rng.integers(len(files)))]
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content) + 1))
    kind = rng.choice(["cut", "garbage", "flip", "repeat", "empty"])
    if kind == "cut":
        content = content[:place]
    elif kind == "garbage":
        content[place : place + 8] = rng.bytes(16)
    elif kind == "flip" and place < len(content):
        content[place] ^= 1 << int(rng.integers(8))
    elif kind == "repeat":
        content *= 3
    else:
        content = bytearray()
    path.write_bytes(content)
    return f"{path.relative_to(case)}: {kind}"


def statement(case: Path, rng: Rng, signer: Path) -> str:
    """The signed statement itself: any type in any field."""
    payload = json.loads(open_envelope((case / ENVELOPE_NAME).read_bytes()).payload)
    key = load_signing_key(signer)
    payload["predicate"]["signer"]["ed25519"] = raw_public(key).hex()
    said = _changed(payload, rng)
    if rng.integers(3) == 0:
        names = ["../x", "/etc/passwd", "a\x1b", "\u202e", "a" * 2000, "inputs//x", ".x", "a\n", ""]
        payload["subject"][0]["name"] = names[int(rng.integers(len(names)))]
    with contextlib.suppress(ValueError):
        (case / ENVELOPE_NAME).write_bytes(seal(canonical_json(payload), key))
    return f"statement: {said}"


def log(case: Path, rng: Rng) -> str:
    """The commitments' log, where there is one."""
    path = case / "commitments" / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    said = _changed(lines, rng)
    with contextlib.suppress(ValueError, UnicodeEncodeError):
        path.write_bytes(b"".join(canonical_json(line) for line in lines))
    return f"log: {said}"


def sign(case: Path, signer: Path) -> None:
    (case / ENVELOPE_NAME).unlink(missing_ok=True)
    sign_folder(case, load_signing_key(signer))


# Trees: what stands in a folder beside plain files. Signed first, since no signature covers these.
def _link(case: Path) -> None:
    (case / "inputs" / "x").symlink_to("/etc/passwd")


def _link_to_folder(case: Path) -> None:
    text = case / "inputs" / "text"
    text.rename(case.parent / f"{case.name}-moved")
    text.symlink_to(case.parent / f"{case.name}-moved")


def _link_in_place(case: Path) -> None:
    path = case / "inputs" / "text" / "text.txt"
    moved = path.rename(case.parent / f"{case.name}-moved.txt")
    path.symlink_to(moved)


def _pipe(case: Path) -> None:
    path = case / "inputs" / "text" / "text.txt"
    path.unlink()
    os.mkfifo(path)


def _socket(case: Path) -> None:
    with contextlib.chdir(case), socket.socket(socket.AF_UNIX) as made:
        made.bind("s")


def _device(case: Path) -> None:
    path = case / "inputs" / "text" / "text.txt"
    path.unlink()
    try:
        os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        os.mkfifo(path)


def _hard_link(case: Path) -> None:
    os.link(case / RESULT_NAME, case / "second.json")


def _names(case: Path) -> None:
    for name in ("a\x1b[2J", "\u202egnp.exe", "a\nNOT verified: x", "-rf", "x" * 200):
        (case / name).write_text("x")
    (case / os.fsdecode(b"\xff\xfe")).write_text("x")


def _many(case: Path) -> None:
    folder = case / "inputs" / "many"
    folder.mkdir()
    for i in range(20_100):
        os.close(os.open(folder / str(i), os.O_CREAT | os.O_WRONLY))


def _deep(case: Path) -> None:
    (case / "/".join("d" * 900)).mkdir(parents=True)


def _unreadable(case: Path) -> None:
    (case / "inputs" / "shut").mkdir(mode=0)


def _folder_in_place(case: Path) -> None:
    path = case / "inputs" / "text" / "text.txt"
    path.unlink()
    path.mkdir()


def _envelope_a_link(case: Path) -> None:
    path = case / ENVELOPE_NAME
    path.symlink_to(path.rename(case.parent / f"{case.name}-moved.json"))


def _envelope_endless(case: Path) -> None:
    (case / ENVELOPE_NAME).unlink()
    (case / ENVELOPE_NAME).symlink_to("/dev/zero")


def _envelope_large(case: Path) -> None:
    os.truncate(case / ENVELOPE_NAME, 1 << 40)


def _sparse(case: Path) -> None:
    os.truncate(case / "inputs" / "text" / "text.txt", 1 << 40)


TREES: dict[str, Callable[[Path], None]] = {
    f.__name__.strip("_"): f
    for f in (_link, _link_to_folder, _link_in_place, _pipe, _socket, _device, _hard_link, _names,
              _many, _deep, _unreadable, _folder_in_place, _envelope_a_link, _envelope_endless,
              _envelope_large, _sparse)
}  # fmt: skip


def bomb(path: Path, n_bytes: int) -> None:
    """Pack one line of so many zeros."""
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b'{"text": "')
        for _ in range(n_bytes >> 20):
            file.write(b"0" * (1 << 20))
        file.write(b'"}\n')
