"""What the tests of bundles do over and over: bundle, verify, sign again what was changed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from detect.cli import heirmark
from detect.evidence.envelope import ENVELOPE_NAME
from detect.evidence.manifest import MANIFEST_NAME
from detect.evidence.names import REPORT_NAME, RESULT_NAME
from detect.evidence.signing_keys import load_signing_key
from detect.evidence.writing import sign_folder
from detect.reporting import render_report
from watermark.storage.files import dump_json


def run(*words: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(heirmark, [str(word) for word in words], input=stdin)


def bundled(place: Path, name: str, *words: object, options: tuple[object, ...] = ()) -> Path:
    """Bundle a test of `place`, run in that folder as people do, and return the bundle."""
    target = place / name
    key = "--master" if words[0] == "trace" else "--key"
    test = [*words, key, "k.json", "--tokenizer", "tokenizer.json"]
    test += [] if words[0] in ("locate", "watch", "calibrate") else ["--decoys", "99"]
    with contextlib.chdir(place):
        done = run("bundle", "-o", name, "--sign", "s.pem", *options, "--", *test)
    assert done.exit_code == 0, (done.output, done.exception)
    return target


def verified(case: Path, place: Path, *options: object, key: str = "k.json") -> dict[str, Any]:
    done = run("verify", case, "--key", place / key, "--json", *options)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    found["exit_code"] = done.exit_code
    return found


def failed(found: dict[str, Any]) -> dict[str, str]:
    return {c["name"]: c["detail"] for c in found["checks"] if c["outcome"] == "failed"}


def forged(
    case: Path,
    place: Path,
    change: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
    signer: str = "t.pem",
) -> None:
    """Let somebody who may sign change manifest and result, and make all the rest fit."""
    if change is not None:
        manifest = json.loads((case / MANIFEST_NAME).read_text())
        result = json.loads((case / RESULT_NAME).read_text())
        change(manifest, result)
        (case / MANIFEST_NAME).write_text(dump_json(manifest))
        (case / RESULT_NAME).write_text(dump_json(result))
        with contextlib.suppress(Exception):
            (case / REPORT_NAME).write_text(render_report(result))
    (case / ENVELOPE_NAME).unlink(missing_ok=True)
    sign_folder(case, load_signing_key(place / signer))
