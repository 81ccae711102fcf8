"""Run a bundle's test again with the revealed key, and compare."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from detect.evidence.bombs import refuse_bomb
from detect.evidence.bundled import Bundled
from detect.evidence.checks import Check, Outcome
from detect.evidence.comparing import EXACT, MODELS_RAN, first_differences
from detect.evidence.environment import differences, environment
from detect.evidence.inputs import Input, check_given
from detect.evidence.invocation import arguments_of, kinds_of
from detect.evidence.recordable import InputKind
from detect.evidence.running import offline, run_command
from detect.evidence.stops import stop_of, stopped
from watermark.errors import EvidenceError, WatermarkError
from watermark.keyring.secret_stores import read_key
from watermark.tokens import load_tokenizer

__all__ = ["recompute"]


def recompute(bundled: Bundled, key_place: str | None, given: Mapping[str, str]) -> Iterator[Check]:
    """Run a bundle's test again.

    Args:
        bundled: the bundle.
        key_place: the revealed key, absolute; None if there is none.
        given: places of inputs that the bundle does not hold, by name.

    Yields:
        The checks: of the inputs, and of the result.

    Raises:
        WatermarkError: the key cannot be read.
        EvidenceError: an input was given that the bundle does not ask for.
    """
    wanted = {
        one.name: one for one in bundled.manifest.inputs if not one.stored and not one.first_only
    }
    if unasked := sorted(given.keys() - wanted.keys()):
        asked = ", ".join(sorted(wanted)) or "none"
        raise EvidenceError(
            f"the bundle does not ask for an input {unasked[0]!r}; it asks: {asked}"
        )
    try:
        with offline():
            places = {name: check_given(wanted[name], place) for name, place in given.items()}
    except WatermarkError as error:
        yield Check("inputs", Outcome.FAILED, str(error))
        return
    if places:
        yield Check("inputs", Outcome.PASSED, f"{', '.join(sorted(places))} as tested")
    if key_place is None:
        detail = "needs the revealed key: --key FILE"
        yield Check("recomputed", Outcome.NOT_DONE, detail)
        return
    key_id = read_key(key_place).key_id
    if key_id != bundled.manifest.key_id:
        detail = f"the bundle was made with the key {bundled.manifest.key_id}, given was {key_id}"
        yield Check("key", Outcome.FAILED, detail)
        return
    if missing := sorted(wanted.keys() - places.keys()):
        asked = " ".join(f"--input {name}=PATH" for name in missing)
        detail = f"the bundle holds only hashes of some inputs: {asked}"
        yield Check("recomputed", Outcome.NOT_DONE, detail)
        return
    yield _Rerun(bundled, places, key_place).check()


@final
@dataclass(frozen=True)
class _Rerun:
    bundled: Bundled
    places: Mapping[str, Path]
    key_place: str

    def check(self) -> Check:
        """Run the test again and compare."""
        with offline(), tempfile.TemporaryDirectory(prefix="heirmark-") as folder:
            try:
                return self._compared(self._computed(Path(folder)))
            except Exception as error:
                return _broken_off(error, folder)

    def _computed(self, work: Path) -> dict[str, Any]:
        manifest = self.bundled.manifest
        paths: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        for number, one in enumerate(manifest.inputs):
            if one.recording:
                path = f"recordings/heirmark-recording-{number}.jsonl"
                self.bundled.copy(one.recording, work / path)
                names[Path(path).name] = one.said
            elif one.first_only:
                continue
            else:
                path = one.path
                self._place(one, work)
            paths.setdefault(one.parameter, []).append(path)
        self._check_tokenizer(work / paths["tokenizer"][0])
        arguments = arguments_of(manifest.command, manifest.options, paths)
        found = run_command(manifest.command, arguments, self.key_place, work, quiet=True)
        renamed: dict[str, Any] = _renamed(found, names)
        return renamed

    def _place(self, one: Input, work: Path) -> None:
        if not one.stored:
            place = work / one.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(self.places[one.name])
            return
        for name in self.bundled.names:
            if name == one.path or name.startswith(one.path + "/"):
                self.bundled.copy(name, work / name)
                refuse_bomb(work / name)

    def _check_tokenizer(self, path: Path) -> None:
        if load_tokenizer(path).fingerprint != self.bundled.manifest.tokenizer_fingerprint:
            raise EvidenceError("the tokenizer is not the one that the bundle names")

    def _compared(self, computed: dict[str, Any]) -> Check:
        tolerance = MODELS_RAN if self._ran_models() else EXACT
        wrong = first_differences(self.bundled.result, computed, tolerance)
        here = differences(dict(self.bundled.manifest.environment), environment())
        other = f" ({'; '.join(here)})" if here else ""
        if wrong:
            return Check(
                "recomputed",
                Outcome.FAILED,
                f"the result is not what the test gives: {'; '.join(wrong)}{other}",
            )
        detail = f"every field of the result, floats to {tolerance:g}{other}"
        said = "recomputed with other versions" if here else "recomputed"
        return Check("recomputed", Outcome.PASSED, detail, said)

    def _ran_models(self) -> bool:
        manifest = self.bundled.manifest
        kinds = kinds_of(manifest.command, manifest.options)
        return any(kinds[one.parameter] is InputKind.MODEL for one in manifest.inputs)


def _broken_off(error: Exception, folder: str) -> Check:
    if stop := stop_of(error):
        return stopped("recomputed", stop)
    # The folder is gone when this is read.
    reason = f"the test cannot be run again: {str(error).replace(f'{folder}/', '')}"
    if not isinstance(error, WatermarkError):
        # Whatever libraries raise for files that were made to break them.
        reason = f"the test breaks off: {type(error).__name__}"
    return Check("recomputed", Outcome.FAILED, reason)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Put the names of those that were asked in the place of their recordings' names."""
    if isinstance(value, str):
        for name, said in names.items():
            value = value.replace(name, said)
        return value
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    return value
