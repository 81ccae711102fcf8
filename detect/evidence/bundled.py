"""A bundle whose files are as they were signed: read, and checked against itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, final

from detect.evidence.folder import block_bytes, digest_file, open_inside
from detect.evidence.inputs import Input, file_hashes, input_name
from detect.evidence.invocation import check_options, kinds_of, recordable
from detect.evidence.manifest import MANIFEST_NAME, Manifest, read_manifest
from detect.evidence.names import RESULT_NAME
from detect.evidence.recordable import COMMON_INPUTS, SEVERAL, InputKind
from detect.evidence.rerun_line import paths_again
from detect.evidence.schemas import validate
from detect.evidence.statement import Statement
from detect.suspect.transcript import is_header
from watermark.errors import EvidenceError
from watermark.storage.files import dump_json

__all__ = ["Bundled", "read_bundled"]

_MOST_BYTES: Final = 256 << 20
# How answers are drawn, in a transcript's first line and among a command's options.
_DRAWN: Final = ("max_new_tokens", "temperature", "top_k", "seed")
_MOST_HEADER: Final = 1 << 20


@final
@dataclass(frozen=True)
class Bundled:
    """A bundle.

    Attributes:
        folder: where it stands.
        statement: what was signed.
        manifest: `bundle.json`.
        result: `result.json`.
    """

    folder: Path
    statement: Statement
    manifest: Manifest
    result: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Its files, without the envelope."""
        return tuple(sorted(self.statement.files))

    @property
    def finding(self) -> str:
        """The result in a few words."""
        from detect.results import format_p

        if "verdict" not in self.result:
            return self.manifest.command
        verdict = self.result["verdict"].replace("_", " ")
        revoked = len(self.result.get("named_revoked", ()))
        found = f", revoked keys found and not named: {revoked}" if revoked else ""
        return f"{verdict}, p = {format_p(self.result['log10_p'])}{found}"

    @property
    def input_hashes(self) -> dict[str, str]:
        """SHA-256 as hex digits of inputs that are single files, by name."""
        held = {name: digest.sha256 for name, digest in self.statement.files.items()}
        return file_hashes(self.manifest.inputs, held)

    def read(self, name: str) -> bytes:
        """Read a file once more, and check that it is still as it was signed.

        Raises:
            EvidenceError: it is not, or it is too large to be held.
        """
        return _read(self.folder, self.statement, name)

    def copy(self, name: str, place: Path) -> None:
        """Copy a file, and check that the copy is as it was signed.

        Raises:
            EvidenceError: it is not.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as out:
            _copied(self.folder, self.statement, name, out)


def read_bundled(folder: Path, statement: Statement) -> Bundled:
    """Read a bundle whose files have been checked.

    Args:
        folder: the bundle.
        statement: its verified statement.

    Returns:
        The bundle.

    Raises:
        EvidenceError: manifest or result do not fit their schemas or each other.
    """
    manifest = read_manifest(_json(folder, statement, MANIFEST_NAME))
    result = _json(folder, statement, RESULT_NAME)
    validate(result, "result-1", RESULT_NAME)
    entry = recordable(manifest.command)
    if result["kind"] != entry.kind:
        raise EvidenceError(f"{RESULT_NAME} is no result of {manifest.command}")
    named = ("config_fingerprint", *(["key_id"] if entry.names_key else []))
    for name in named:
        if result[name] != getattr(manifest, name):
            raise EvidenceError(f"{MANIFEST_NAME} and {RESULT_NAME} differ in {name}")
    _check_inputs(manifest, statement)
    check_options(manifest.command, manifest.options, paths_again(manifest.inputs))
    for one in manifest.inputs:
        if one.recording:
            _check_recording(folder, one, manifest.options)
    return Bundled(folder, statement, manifest, result)


def _check_inputs(manifest: Manifest, statement: Statement) -> None:
    """Allow only inputs of the shapes that `heirmark bundle` writes.

    A path that is not there would be looked for elsewhere, and a stored model or GGUF file would be
    loaded: neither is left to the bundle.
    """
    kinds = kinds_of(manifest.command, manifest.options)
    seen: set[str] = set()
    for one in manifest.inputs:
        if one.parameter not in kinds or (one.parameter in seen and one.parameter not in SEVERAL):
            raise EvidenceError(f"{MANIFEST_NAME} has an input that cannot be: {one.name}")
        seen.add(one.parameter)
        if not _is_plausible(one, kinds[one.parameter], statement):
            raise EvidenceError(f"{MANIFEST_NAME} has an input that cannot be: {one.name}")
    if missing := sorted(set(COMMON_INPUTS) - seen):
        raise EvidenceError(f"{MANIFEST_NAME} lacks the input {missing[0]}")


def _check_recording(folder: Path, one: Input, options: Mapping[str, Any]) -> None:
    """Allow only transcripts of the suspect that the result names; any text would be its answer."""
    with open_inside(folder, one.recording) as file:
        line = file.readline(_MOST_HEADER)
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not is_header(header):
        raise EvidenceError(f"{one.recording} is no transcript of heirmark")
    if header.get("suspect") != one.said:
        raise EvidenceError(
            f"{one.recording} is a transcript of {str(header.get('suspect'))[:80]!r}, "
            f"{MANIFEST_NAME} says of {one.said[:80]!r}"
        )
    sampling = header.get("sampling")
    drawn = sampling if isinstance(sampling, dict) else {}
    for name in _DRAWN:
        if drawn.get(name) != options.get(name):
            raise EvidenceError(f"{one.recording} was drawn with another {name} than the options")


def _is_plausible(one: Input, kind: InputKind, statement: Statement) -> bool:
    name, _, number = one.name.partition("-")
    if name != input_name(one.parameter) or (number and one.parameter not in SEVERAL):
        return False
    if one.recording and not (kind is InputKind.SUSPECT and one.recording in statement.files):
        return False
    if one.path and one.path.split("/")[1] != one.name:
        return False
    if one.first_only:
        return bool(one.recording) or one.parameter == "prompts_path"
    if kind is InputKind.MODEL:
        return not one.stored and bool(one.files) and bool(one.path)
    if kind is InputKind.SUSPECT and not one.path.endswith(".jsonl"):
        return False
    if one.is_folder and kind is not InputKind.CORPUS:
        return False
    if one.parameter == "tokenizer" and not one.path.endswith(".json"):
        return False
    if not one.stored:
        return bool(one.files) and bool(one.path)
    inside = [n for n in statement.files if n == one.path or n.startswith(one.path + "/")]
    return bool(inside) and (one.is_folder or inside == [one.path])


def _json(folder: Path, statement: Statement, name: str) -> dict[str, Any]:
    content = _read(folder, statement, name)
    try:
        payload = json.loads(content.decode("utf-8"), parse_constant=_refuse)
        again = dump_json(payload).encode("utf-8")
    except (ValueError, RecursionError):
        raise EvidenceError(f"{name} is not JSON") from None
    if again != content or not isinstance(payload, dict):
        # Keys that stand twice, for example: readers would not agree on what is said.
        raise EvidenceError(f"{name} is not written as heirmark writes it")
    return payload


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _read(folder: Path, statement: Statement, name: str) -> bytes:
    import io

    if statement.files.get(name) is None:
        raise EvidenceError(f"the bundle lacks {name}")
    if statement.files[name].size > _MOST_BYTES:
        raise EvidenceError(f"{name} has more than {_MOST_BYTES:,} bytes")
    held = io.BytesIO()
    _copied(folder, statement, name, held)
    return held.getvalue()


def _copied(folder: Path, statement: Statement, name: str, out: BinaryIO) -> None:
    signed = statement.files[name]
    with open_inside(folder, name) as file:
        found = digest_file(file, block_bytes(signed.size), out, most=signed.size + 1)
    if found != signed:
        raise EvidenceError(f"{name} was changed while it was verified")
