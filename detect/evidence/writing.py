"""Make a bundle: run a test on what will stand in it, write everything down, sign it.

The folder appears whole or not at all.
"""

from __future__ import annotations

import os
import secrets as random_secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from detect.evidence.envelope import ENVELOPE_NAME, seal
from detect.evidence.environment import environment
from detect.evidence.folder import block_bytes, digest_file, list_files, open_inside
from detect.evidence.inputs import (
    RECORDING,
    Input,
    Stage,
    copy_private,
    file_hashes,
    hash_tree,
    input_name,
)
from detect.evidence.invocation import Invocation, arguments_of, kinds_of, parse_invocation
from detect.evidence.manifest import MANIFEST_NAME, Manifest, claim_of
from detect.evidence.names import REPORT_NAME, RESULT_NAME
from detect.evidence.planned import Examined
from detect.evidence.recordable import SEVERAL, InputKind
from detect.evidence.rerun_line import rerun_line
from detect.evidence.running import run_command
from detect.evidence.schemas import validate
from detect.evidence.secrets_within import Secrets
from detect.evidence.signing_keys import raw_public
from detect.evidence.statement import Statement
from watermark.cli import chosen_config
from watermark.errors import EvidenceError, MissingExtraError
from watermark.extras import import_extra
from watermark.keyring.secret_stores import read_key
from watermark.storage.files import dump_json
from watermark.storage.private_files import sync_folder
from watermark.tokens import load_tokenizer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from detect.evidence.commitment import Committed
    from watermark.config import WatermarkConfig
    from watermark.keys import Key

__all__ = ["BundleRequest", "sign_folder", "write_bundle"]

_CONFIG: Final = "inputs/config/config.json"


@final
@dataclass(frozen=True)
class BundleRequest:
    """What is to be bundled.

    Attributes:
        words: the command and its arguments, without "heirmark".
        target: the bundle's folder, which does not exist yet.
        signer: who signs.
        copy: whether inputs are copied; else their hashes alone are kept.
        committed: the commitment that was made before, or None.
    """

    words: tuple[str, ...]
    target: Path
    signer: Ed25519PrivateKey
    copy: bool = True
    committed: Committed | None = None


def write_bundle(request: BundleRequest) -> Manifest:
    """Run a test and write its bundle.

    Args:
        request: what is to be bundled.

    Returns:
        What `bundle.json` holds.

    Raises:
        EvidenceError: the folder is there already, or the test cannot be recorded.
        WatermarkError: the test's own.
    """
    target = request.target.absolute()
    if os.path.lexists(target):
        raise EvidenceError(f"{target} exists already; a bundle is never overwritten")
    invocation = parse_invocation(request.words)
    key = read_key(invocation.key_place)
    _check_packages()
    tested = Examined(invocation.name, invocation.options, _config(invocation).fingerprint)
    _check_committed(request, key, tested)
    secrets = Secrets.of(key, request.signer)
    with _folder_for(target) as kept, tempfile.TemporaryDirectory(prefix="heirmark-") as work:
        inputs = _staged(invocation, Stage(kept, Path(work), secrets, copy=request.copy))
        if request.committed is not None:
            tested = replace(tested, inputs=_input_hashes(inputs, kept))
            _check_committed(request, key, tested)
        result = _run(invocation, inputs, kept, Path(work))
        tested = replace(tested, config_fingerprint=result["config_fingerprint"], result=result)
        _check_committed(request, key, tested)
        commitment = request.committed.store(kept) if request.committed else None
        _keep_recordings(invocation, inputs, kept)
        inputs = _named(inputs, result)
        manifest = replace(
            _manifest(invocation, inputs, result, key.key_id, kept), commitment=commitment
        )
        _write_texts(kept, manifest, result)
        for name in list_files(kept).files:
            # Inputs were looked at before they were copied.
            if not name.startswith("inputs/"):
                secrets.refuse(kept / name, ours=True)
        sign_folder(kept, request.signer)
        _publish(kept, target)
    return manifest


def _check_packages() -> None:
    """Say what is missing before hours of work."""
    for package in ("securesystemslib.dsse", "jsonschema"):
        import_extra(package, "evidence")
    if find_spec("jinja2") is None:
        raise MissingExtraError("jinja2", "evidence")


@contextmanager
def _folder_for(target: Path) -> Iterator[Path]:
    """Make a folder beside the target, which is taken away unless it has taken its place."""
    folder = target.with_name(f".{target.name}.{random_secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Texts that nobody else may read stay so.
        folder.mkdir(mode=0o700)
        yield folder
    except OSError as error:
        raise EvidenceError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _staged(invocation: Invocation, stage: Stage) -> tuple[Input, ...]:
    """Put every input in its place; config and tokenizer always, whatever names them."""
    kinds = kinds_of(invocation.name, invocation.options)
    specs = dict(invocation.inputs)
    specs.pop("config_path", None)
    config = dump_json(_config(invocation).to_dict())
    staged = [stage.put_text("config_path", _CONFIG, config)]
    for parameter, names in specs.items():
        many = parameter in SEVERAL
        for number, spec in enumerate(names, 1):
            name = input_name(parameter, number if many else None)
            staged.append(stage.put(parameter, name, kinds[parameter], spec))
    return _with_recordings(staged, kinds)


def _config(invocation: Invocation) -> WatermarkConfig:
    given = invocation.inputs.get("config_path")
    return chosen_config(invocation.preset_name, Path(given[0]) if given else None)


def _with_recordings(staged: Sequence[Input], kinds: dict[str, InputKind]) -> tuple[Input, ...]:
    """Let recorded answers stand in for what is asked, and its prompts."""
    found = [
        replace(one, recording=_recording(one), first_only=True) if _is_asked(one, kinds) else one
        for one in staged
    ]
    # The recording of a suspect holds its prompts, and a hash of all of them.
    recorded = any(one.parameter == "suspect" and one.recording for one in found)
    return tuple(
        replace(one, first_only=True) if recorded and one.parameter == "prompts_path" else one
        for one in found
    )


def _is_asked(one: Input, kinds: dict[str, InputKind]) -> bool:
    return kinds[one.parameter] is InputKind.SUSPECT and not one.path.endswith(".jsonl")


def _recording(one: Input) -> str:
    number = one.name.removeprefix(one.parameter)
    return RECORDING if not number else RECORDING.replace(".jsonl", f".control{number}.jsonl")


def _run(invocation: Invocation, inputs: Sequence[Input], kept: Path, work: Path) -> dict[str, Any]:
    paths: dict[str, list[str]] = {}
    for one in inputs:
        paths.setdefault(one.parameter, []).append(one.path)
    for parameter, places in paths.items():
        if "" in places:
            # An endpoint has no place, only an address.
            specs = zip(places, invocation.inputs[parameter], strict=True)
            paths[parameter] = [place or address for place, address in specs]
    arguments = list(invocation.running)
    if any(one.recording for one in inputs):
        transcript = invocation.transcript or kept / RECORDING
        transcript.parent.mkdir(parents=True, exist_ok=True)
        arguments.append(f"--transcript={transcript}")
    arguments += arguments_of(invocation.name, invocation.options, paths)
    return run_command(invocation.name, arguments, invocation.key_place, work, quiet=False)


def _keep_recordings(invocation: Invocation, inputs: Sequence[Input], kept: Path) -> None:
    own = invocation.transcript
    for one in inputs:
        if one.recording and own is not None:
            number = one.recording.removeprefix("transcripts/answers").removesuffix(".jsonl")
            (kept / one.recording).parent.mkdir(exist_ok=True)
            copy_private(own.with_name(f"{own.stem}{number}{own.suffix}"), kept / one.recording)


def _named(inputs: Sequence[Input], result: dict[str, Any]) -> tuple[Input, ...]:
    """Note by which names the result calls those that were asked."""
    said = {"suspect": result.get("suspect", "")}
    said |= {f"controls-{n}": c["name"] for n, c in enumerate(result.get("controls", ()), 1)}
    return tuple(replace(one, said=said[one.name]) if one.recording else one for one in inputs)


def _manifest(
    invocation: Invocation,
    inputs: tuple[Input, ...],
    result: dict[str, Any],
    key_id: str,
    kept: Path,
) -> Manifest:
    tokenizer = next(one for one in inputs if one.parameter == "tokenizer")
    source = kept / tokenizer.path
    spec = source if tokenizer.stored else Path(invocation.inputs["tokenizer"][0])
    return Manifest(
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        claim=claim_of(result, key_id),
        command=invocation.name,
        options=invocation.options,
        rerun=rerun_line(invocation.name, invocation.options, inputs),
        key_id=key_id,
        config_fingerprint=result["config_fingerprint"],
        tokenizer_fingerprint=load_tokenizer(spec).fingerprint,
        inputs=inputs,
        environment=environment(),
    )


def _check_committed(request: BundleRequest, key: Key, tested: Examined) -> None:
    if request.committed is not None:
        request.committed.check(key, tested)


def _input_hashes(inputs: Sequence[Input], kept: Path) -> dict[str, str]:
    """Hash the inputs that are single files, those of the bundle as they stand in it."""
    held = [one.path for one in inputs if one.stored and not one.is_folder and one.path]
    return file_hashes(inputs, {path: hash_tree(kept / path)[""].sha256 for path in held})


def _write_texts(kept: Path, manifest: Manifest, result: dict[str, Any]) -> None:
    from detect.reporting import render_report

    validate(result, "result-1", RESULT_NAME)
    payload = manifest.to_dict()
    validate(payload, "bundle-1", MANIFEST_NAME)
    texts = {
        RESULT_NAME: dump_json(result),
        REPORT_NAME: render_report(result),
        MANIFEST_NAME: dump_json(payload),
    }
    for name, text in texts.items():
        (kept / name).write_text(text, encoding="utf-8", newline="\n")


def sign_folder(kept: Path, signer: Ed25519PrivateKey) -> None:
    """Sign every file of a folder, and put the envelope beside them.

    Args:
        kept: the folder.
        signer: who signs.
    """
    digests = {}
    for name in list_files(kept).files:
        with open_inside(kept, name) as file:
            size = os.fstat(file.fileno()).st_size
            digests[name] = digest_file(file, block_bytes(size))
            # On the disk before the folder has its name.
            os.fsync(file.fileno())
    statement = Statement(digests, raw_public(signer).hex())
    with (kept / ENVELOPE_NAME).open("wb") as out:
        out.write(seal(statement.to_bytes(), signer))
        out.flush()
        os.fsync(out.fileno())


def _publish(kept: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise EvidenceError(f"{target} was made by somebody else meanwhile")
    kept.rename(target)
    sync_folder(target.parent)
