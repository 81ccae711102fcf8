"""The command line by which people run a bundle's test again, inside its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from detect.evidence.inputs import Input
from detect.evidence.invocation import arguments_of, key_option

__all__ = ["paths_again", "rerun_line"]


def paths_again(inputs: Sequence[Input]) -> dict[str, list[str]]:
    """Return what the parameters point to when a test is run again: recordings where there are."""
    paths: dict[str, list[str]] = {}
    for one in inputs:
        if one.recording or not one.first_only:
            paths.setdefault(one.parameter, []).append(one.recording or one.path)
    return paths


def rerun_line(name: str, options: Mapping[str, Any], inputs: Sequence[Input]) -> str:
    """Write the command line that runs a test again.

    Args:
        name: the command.
        options: values by parameter.
        inputs: of the bundle.

    Returns:
        Words quoted for a shell; KEY stands for the key file.
    """
    arguments = arguments_of(name, options, paths_again(inputs))
    return shlex.join(["heirmark", *name.split(), f"{key_option(name)}=KEY", *arguments])
