"""The inputs of a test: copied into a bundle, or named by their hashes; and found again later."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from detect.evidence.folder import is_safe
from detect.evidence.recordable import InputKind
from detect.evidence.secrets_within import Secrets
from detect.suspect.opening import is_endpoint, is_replay
from watermark.errors import EvidenceError
from watermark.models import is_gguf, resolve_model
from watermark.tokens import tokenizer_file

__all__ = [
    "COPY_LIMIT",
    "FileHash",
    "Input",
    "Stage",
    "check_given",
    "copy_private",
    "file_hashes",
    "hash_tree",
    "input_name",
]

# Bytes of one input that are copied.
COPY_LIMIT: Final = 256 << 20
# What decides how a model computes; a read-me beside it does not.
_MODEL_FILES: Final = (".safetensors", ".json", ".jinja", ".txt", ".model")
_CHUNK: Final = 1 << 20
RECORDING: Final = "transcripts/answers.jsonl"


@final
class FileHash(NamedTuple):
    """Size in bytes and SHA-256 as hex digits."""

    size: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"size": self.size, "sha256": self.sha256}


@final
@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        name: by which `heirmark verify --input NAME=PATH` is told where it is: the parameter's,
            with a number where there may be several.
        parameter: of the command.
        path: where it stands when the command runs, relative to the folder that it runs in; empty
            for an endpoint.
        is_folder: whether it is a folder.
        stored: whether the bundle holds it, at `path`.
        why_not: why it is not stored.
        files: hashes of an input that is not stored, by relative name ("" for a file).
        first_only: it is not needed to run the test again.
        recording: the bundle's file with answers that stand in for it, or "".
        said: its name in the result, where a recording stands in for it.
    """

    name: str
    parameter: str
    path: str
    is_folder: bool = False
    stored: bool = True
    why_not: str = ""
    files: Mapping[str, FileHash] = field(default_factory=dict)
    first_only: bool = False
    recording: str = ""
    said: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "parameter": self.parameter,
            "path": self.path,
            "is_folder": self.is_folder,
            "stored": self.stored,
            "why_not": self.why_not,
            "files": {name: self.files[name].to_dict() for name in sorted(self.files)},
            "first_only": self.first_only,
            "recording": self.recording,
            "said": self.said,
        }

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> Input:
        """Read one back from JSON values that fit the schema."""
        files = {n: FileHash(f["size"], f["sha256"]) for n, f in payload["files"].items()}
        return cls(**{**payload, "files": files})


@final
class Stage:
    """Two folders of a bundle in the making: what it will hold, and where the command runs.

    The command reads its inputs under the same relative names here and whenever it is run again, so
    that results are equal and hold no path of this machine.

    Args:
        kept: the bundle's folder.
        work: where the command runs; its inputs are links to what is kept, or to the originals.
        secrets: what may not be copied.
        copy: whether inputs are copied at all.
    """

    def __init__(self, kept: Path, work: Path, secrets: Secrets, *, copy: bool) -> None:
        self._kept, self._work, self._secrets, self._copy = kept, work, secrets, copy

    def put(self, parameter: str, name: str, kind: InputKind, spec: str) -> Input:
        """Make one input ready.

        Args:
            parameter: of the command.
            name: see `Input.name`.
            kind: what it is.
            spec: what the person calls it.

        Returns:
            The input.

        Raises:
            EvidenceError: it cannot be recorded.
        """
        if kind is InputKind.SUSPECT and is_endpoint(spec):
            return Input(name, parameter, "", stored=False, why_not="asked", first_only=True)
        if kind is InputKind.MODEL or (kind is InputKind.SUSPECT and not is_replay(spec)):
            return self._model(parameter, name, spec)
        source = self._source(parameter, kind, spec)
        path = f"inputs/{name}/{_base(source, parameter)}"
        files = hash_tree(source)
        why_not = self._why_not(path, files)
        if why_not:
            _link(self._work / path, source)
            return Input(name, parameter, path, source.is_dir(), False, why_not, files)
        self._store(source, path, files)
        return Input(name, parameter, path, source.is_dir())

    def put_text(self, parameter: str, path: str, content: str) -> Input:
        """Make an input of text that no file holds; always stored."""
        target = self._kept / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8", newline="\n")
        _link(self._work / path, target)
        return Input(input_name(parameter), parameter, path)

    def _why_not(self, path: str, files: Mapping[str, FileHash]) -> str:
        if not self._copy:
            return "asked for"
        if sum(file.size for file in files.values()) > COPY_LIMIT:
            return "too large"
        if not all(is_safe(f"{path}/{name}" if name else path) for name in files):
            return "names of files that bundles do not have"
        return ""

    def _source(self, parameter: str, kind: InputKind, spec: str) -> Path:
        if parameter == "tokenizer":
            source = tokenizer_file(spec)
        elif spec == "-" and kind is InputKind.FILE:
            source = self._work / f"{parameter}.stdin"
            source.write_bytes(sys.stdin.buffer.read())
        else:
            source = Path(spec)
        if kind is InputKind.CORPUS and ("://" in spec or spec.startswith("datasets:")):
            raise EvidenceError(f"a bundle records files: download {spec} first, and name the copy")
        if not source.exists():
            raise EvidenceError(f"there is no file {source}")
        if not (source.is_file() or (kind is InputKind.CORPUS and source.is_dir())):
            raise EvidenceError(f"{source} is no plain file, which a bundle records")
        return source.resolve() if source.is_dir() else source.absolute()

    def _model(self, parameter: str, name: str, spec: str) -> Input:
        file = Path(spec)
        source = file.absolute() if is_gguf(file) else resolve_model(spec).absolute()
        path = f"inputs/{name}/{_base(file, parameter)}"
        _link(self._work / path, source)
        files = hash_tree(source, _MODEL_FILES)
        return Input(name, parameter, path, source.is_dir(), False, "a model", files)

    def _store(self, source: Path, path: str, files: Iterable[str]) -> None:
        target = self._kept / path
        for name in files:
            copied = target / name if name else target
            copied.parent.mkdir(parents=True, exist_ok=True)
            original = source / name if name else source
            self._secrets.refuse(original)
            copy_private(original, copied)
        _link(self._work / path, target)


def input_name(parameter: str, number: int | None = None) -> str:
    """Name an input: its parameter without "_path", with a number where there may be several."""
    name = parameter.removesuffix("_path")
    return name if number is None else f"{name}-{number}"


def file_hashes(inputs: Iterable[Input], held: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of inputs that are single files.

    Args:
        inputs: of a bundle.
        held: SHA-256 as hex digits of what the bundle holds, by the names of its files.

    Returns:
        SHA-256 as hex digits, by the inputs' names; of a recording that stands in, its own.
    """
    found = {}
    for one in inputs:
        place = one.recording or one.path
        if place in held:
            found[one.name] = held[place]
        elif "" in one.files:
            found[one.name] = one.files[""].sha256
    return found


def hash_tree(source: Path, suffixes: tuple[str, ...] | None = None) -> dict[str, FileHash]:
    """Hash a file, or the files of a folder at any depth.

    Args:
        source: the file or folder.
        suffixes: of a folder only files that end so.

    Returns:
        Hashes by relative name; "" is the name of a file.

    Raises:
        EvidenceError: one cannot be read, or there is none.
    """
    if not source.is_dir():
        return {"": _hash(source)}
    found = {
        path.relative_to(source).as_posix(): _hash(path)
        for path in sorted(_walk(source))
        if suffixes is None or path.name.endswith(suffixes)
    }
    if not found:
        raise EvidenceError(f"the folder {source} holds no file")
    return found


def _walk(folder: Path) -> Iterable[Path]:
    for base, folders, names in os.walk(folder):
        for name in folders:
            if (Path(base) / name).is_symlink():
                # A scan would follow it, and read what has no hash here.
                raise EvidenceError(f"{Path(base) / name} is a link to a folder: copy it")
        yield from (Path(base) / name for name in names)


def _hash(path: Path) -> FileHash:
    whole, size = hashlib.sha256(), 0
    if not path.is_file():
        raise EvidenceError(f"{path} is no plain file, which a bundle records")
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                whole.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise EvidenceError(f"cannot read {path}: {error.strerror}") from None
    return FileHash(size, whole.hexdigest())


def check_given(wanted: Input, given: str) -> Path:
    """Check that a file or folder is the input of which a bundle has the hashes.

    Args:
        wanted: the input.
        given: what the verifier says that it is: a path, or what stands for a model.

    Returns:
        Its place.

    Raises:
        EvidenceError: it is another one; names the first file that differs.
    """
    is_model = wanted.why_not == "a model"
    source = Path(given)
    if is_model and not is_gguf(source):
        source = resolve_model(given)
    elif wanted.parameter == "tokenizer":
        source = tokenizer_file(given)
    if not source.exists():
        raise EvidenceError(f"input {wanted.name}: there is no file {source}")
    _check_sizes(wanted, source)
    found = hash_tree(source, _MODEL_FILES if is_model else None)
    for name in sorted({*found, *wanted.files}):
        if found.get(name) != wanted.files.get(name):
            raise EvidenceError(
                f"input {wanted.name}: {source / name if name else source} is not what was tested "
                f"(SHA-256 {_short(found.get(name))}, expected {_short(wanted.files.get(name))})"
            )
    return source.absolute()


def _check_sizes(wanted: Input, source: Path) -> None:
    """Tell another input by its sizes, before gigabytes of it are read."""
    for name, expected in sorted(wanted.files.items()):
        place = source / name if name else source
        if place.is_file() and (size := place.stat().st_size) != expected.size:
            raise EvidenceError(
                f"input {wanted.name}: {place} is not what was tested ({size:,} bytes, expected "
                f"{expected.size:,})"
            )


def copy_private(source: Path, target: Path) -> None:
    """Copy a file, for whom it gave no more rights than it gives."""
    shutil.copyfile(source, target)
    rights = source.stat().st_mode & target.stat().st_mode & 0o777
    target.chmod(rights | stat.S_IRUSR | stat.S_IWUSR)


def _short(found: FileHash | None) -> str:
    return "none" if found is None else found.sha256[:16]


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def _base(source: Path, parameter: str) -> str:
    other = f"{parameter}{source.suffix}"
    return next(name for name in (source.name, other, parameter) if is_safe(name))
