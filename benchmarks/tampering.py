"""Is any changed byte of an evidence bundle found, and the right file named?

A real bundle: the real model answers under a key, and `heirmark bundle` records the test of its
answer. Then it is changed in one place at a time: a byte anywhere (uniformly over all bytes of the
bundle, of which the tokenizer has nearly all; and uniformly over files, then over the bytes of
one), a byte taken out or put in, and every file under another name, in another's place, or gone.

    python -m benchmarks.tampering
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.record import write_result
from detect.cli import heirmark
from detect.evidence.checks import Outcome, Verification
from detect.evidence.integrity import check_files, signed_statement
from detect.evidence.signing_keys import save_signing_key
from detect.evidence.verifying import VerifyRequest, verify_bundle
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

__all__: list[str] = []

_PROMPT = "Write a long story about an old library."
_TIMED = 50


class Change(NamedTuple):
    """One change: the file, what it then holds (None: it is gone), and where it was changed."""

    name: str
    content: bytes | None
    place: int


def _run(*words: object) -> str:
    done = CliRunner().invoke(heirmark, [str(word) for word in words])
    if done.exit_code:
        raise SystemExit(f"heirmark {words[0]}: {done.output}{done.exception or ''}")
    return done.stdout


def make_bundle(folder: Path, seed: int, n_tokens: int) -> Path:
    """Let the model answer under a key, and bundle the test of its answer.

    Args:
        folder: where everything goes.
        seed: of key and sampling.
        n_tokens: at most so many.

    Returns:
        The bundle.
    """
    save_key(SecretKey(np.random.default_rng(seed).bytes(32)), folder / "k.json")
    save_signing_key(Ed25519PrivateKey.generate(), folder / "s.pem")
    answer = ["--prompt", _PROMPT, "--max-new-tokens", n_tokens, "--seed", seed, "-o", "a.jsonl"]
    with contextlib.chdir(folder):
        _run("generate", "--key", "k.json", "--save-config", "mark.json", *answer)
        test = ["scan", "a.jsonl", "--key", "k.json", "--config", "mark.json"]
        _run("bundle", "-o", "case", "--sign", "s.pem", "--", *test)
    return folder / "case"


def _contents(case: Path) -> dict[str, bytes]:
    files = sorted(p for p in case.rglob("*") if p.is_file())
    return {p.relative_to(case).as_posix(): p.read_bytes() for p in files}


def _changes(
    kind: str, contents: dict[str, bytes], n: int, rng: np.random.Generator
) -> Iterator[Change]:
    names = list(contents)
    sizes = np.array([len(contents[name]) for name in names])
    for _ in range(n):
        by_bytes = kind == "any byte of the bundle"
        i = int(rng.choice(len(names), p=sizes / sizes.sum() if by_bytes else None))
        content, place = contents[names[i]], int(rng.integers(sizes[i]))
        before, after = content[:place], content[place + 1 :]
        if kind == "a byte taken out":
            yield Change(names[i], before + after, place)
        elif kind == "a byte put in":
            yield Change(names[i], before + rng.bytes(1) + content[place:], place)
        else:
            byte = (content[place] + int(rng.integers(1, 256))) % 256
            yield Change(names[i], before + bytes([byte]) + after, place)


def _apply(case: Path, change: Change) -> Verification:
    path = case / change.name
    if change.content is None:
        path.unlink()
    else:
        path.write_bytes(change.content)
    return verify_bundle(VerifyRequest(case))


def _detail(found: Verification) -> str:
    return next((c.detail for c in found.checks if c.outcome is Outcome.FAILED), "")


def _is_located(detail: str, place: int) -> bool | None:
    """True if the place that was named is right; None where none was named."""
    if within := re.search(r"within bytes ([\d,]+) to ([\d,]+)", detail):
        first, last = (int(number.replace(",", "")) for number in within.groups())
        return first <= place <= last
    if onwards := re.search(r"from byte ([\d,]+) on", detail):
        # An inserted byte that equals its neighbour shows at the run's end.
        return int(onwards[1].replace(",", "")) <= place + 256
    return None


def _tried(case: Path, kind: str, n: int, rng: np.random.Generator) -> dict[str, Any]:
    contents = _contents(case)
    found = named = placed = right = 0
    for change in _changes(kind, contents, n, rng):
        verification = _apply(case, change)
        (case / change.name).write_bytes(contents[change.name])
        detail = _detail(verification)
        found += not verification.is_intact
        named += change.name in detail
        located = _is_located(detail, change.place)
        placed += located is not None
        right += located is True
    return {"n": n, "n_found": found, "n_file_named": named, "n_placed": placed, "n_right": right}


def _moved(case: Path) -> dict[str, Any]:
    """Every file gone, renamed, and in every other's place."""
    contents = _contents(case)
    n = found = named = 0
    for name, content in contents.items():
        others = [Change(other, content, 0) for other in contents if other != name]
        for change in [Change(name, None, 0), *others]:
            detail = _detail(_apply(case, change))
            (case / change.name).write_bytes(contents[change.name])
            n, found, named = n + 1, found + bool(detail), named + (change.name in detail)
        renamed = (case / name).rename(case / f"{name}.old")
        detail = _detail(verify_bundle(VerifyRequest(case)))
        renamed.rename(case / name)
        n, found, named = n + 1, found + bool(detail), named + (name in detail)
    return {"n": n, "n_found": found, "n_file_named": named}


def _milliseconds(case: Path) -> float:
    took = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        check_files(case, signed_statement(case))
        took.append(time.perf_counter() - started)
    return round(1000 * float(np.median(took)), 2)


@click.command()
@click.option("--seed", default=0, show_default=True)
@click.option("--n", default=1000, show_default=True, help="Changes of each of the main kinds.")
@click.option("--tokens", default=300, show_default=True, help="Tokens of the answer at most.")
def main(seed: int, n: int, tokens: int) -> None:
    """Run it."""
    rng = np.random.default_rng([seed, 7])
    with tempfile.TemporaryDirectory() as folder:
        case = make_bundle(Path(folder), seed, tokens)
        line = _run("verify", case, "--key", Path(folder) / "k.json")
        contents = _contents(case)
        measured: dict[str, Any] = {
            "verified_first": line.split("; ")[0],
            "n_files": len(contents),
            "n_bytes": sum(map(len, contents.values())),
            "bytes_by_file": {name: len(content) for name, content in contents.items()},
            "hashing_milliseconds": _milliseconds(case),
            "any byte of the bundle": _tried(case, "any byte of the bundle", n, rng),
            "any byte of any file": _tried(case, "any byte of any file", n, rng),
            "a byte taken out": _tried(case, "a byte taken out", n // 4, rng),
            "a byte put in": _tried(case, "a byte put in", n // 4, rng),
            "files moved": _moved(case),
        }
        again = _run("verify", case, "--key", Path(folder) / "k.json")
        measured["verified_again"] = again == line
        shutil.rmtree(case)
    path = write_result("tampering", seed=seed, measured=measured)
    click.echo(path.read_text())


if __name__ == "__main__":
    main()
