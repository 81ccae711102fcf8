"""A command line taken apart by the command's own parser, and put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import click
from click.core import ParameterSource

from detect.decoys import AUTOMATIC
from detect.evidence.recordable import COMMON_INPUTS, RECORDABLE, InputKind, Recordable
from watermark.cli import heirmark
from watermark.errors import EvidenceError

__all__ = [
    "Invocation",
    "absolute_place",
    "arguments_of",
    "check_options",
    "key_option",
    "kinds_of",
    "leaf_command",
    "parse_invocation",
    "recordable",
]

# Given by the bundle itself, or without a bearing on the result.
_OWN: Final = frozenset({"as_json", "output", "preset_name"})


@final
@dataclass(frozen=True)
class Invocation:
    """What is going to be recorded.

    Attributes:
        name: the command, as in `RECORDABLE`.
        options: JSON values of all the options that decide the result, None for one that is not
            set. Defaults are included: a later version may have others.
        inputs: what people call each input, by parameter; tuples where one may be repeated.
        running: arguments that are given the first time only.
        preset_name: a preset in place of a config file.
        key_place: the key file, absolute, or what else `watermark.keyring.secret_stores` knows.
        transcript: the file that the command line records answers in, if it names one.
    """

    name: str
    options: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, ...]]
    running: tuple[str, ...]
    preset_name: str | None
    key_place: str
    transcript: Path | None = None


def recordable(name: str) -> Recordable:
    """Look up how a command is recorded.

    Args:
        name: for example "detect".

    Returns:
        The entry.

    Raises:
        EvidenceError: it cannot be recorded.
    """
    if name not in RECORDABLE:
        raise EvidenceError(
            f"a bundle cannot record {name!r}; it can record {', '.join(RECORDABLE)}"
        )
    return RECORDABLE[name]


def leaf_command(name: str) -> click.Command:
    """Find a command: "detect", or "group command"."""
    import detect.cli  # noqa: F401  (adds the commands to the group)

    command: click.Command = heirmark
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


def _split(words: Sequence[str]) -> tuple[str, list[str]]:
    for n in (2, 1):
        if " ".join(words[:n]) in RECORDABLE:
            return " ".join(words[:n]), list(words[n:])
    recordable(words[0] if words else "")
    raise AssertionError


def parse_invocation(words: Sequence[str]) -> Invocation:
    """Take a command line apart.

    Args:
        words: the command and its arguments, without "heirmark".

    Returns:
        What is going to be recorded.

    Raises:
        EvidenceError: a command or an option that cannot be recorded.
        click.UsageError: wrong usage of the command.
    """
    name, arguments = _split(words)
    entry, command = recordable(name), leaf_command(name)
    context = command.make_context(f"heirmark {name}", arguments)
    inputs_of = {**COMMON_INPUTS, **entry.inputs}
    known = {*inputs_of, *entry.options, *entry.running, *_OWN, entry.key}
    options: dict[str, Any] = {}
    inputs: dict[str, tuple[str, ...]] = {}
    running: list[str] = []
    for parameter in command.params:
        field = str(parameter.name)
        value, given = context.params.get(field), _is_given(context, field)
        if field not in known:
            if given:
                raise EvidenceError(f"a bundle of {name} cannot record {parameter.opts[0]}")
        elif field in inputs_of:
            inputs[field] = _names(value)
        elif field in entry.options:
            options[field] = _recorded(field, value)
        elif field in entry.running and given and field != "transcript":
            running += _words(parameter, value)
    key_path = context.params[entry.key]
    if key_path is None:
        raise EvidenceError(
            f"a bundle of {name} records a test under one key: give {key_option(name)} FILE"
        )
    _refuse_outputs(context)
    preset_name = context.params.get("preset_name")
    transcript = context.params.get("transcript")
    return Invocation(
        name,
        options,
        inputs,
        tuple(running),
        preset_name,
        absolute_place(str(key_path)),
        None if transcript is None else Path(transcript).absolute(),
    )


def absolute_place(key: str) -> str:
    """Write where a key is so that it holds in any folder; env:VARIABLE stays as it is."""
    path = Path(key.removeprefix("file:"))
    return str(path.absolute()) if path.exists() else key


def _refuse_outputs(context: click.Context) -> None:
    for name in ("output", "as_json"):
        if context.params.get(name):
            raise EvidenceError(
                "the bundle holds the result itself: leave out --output and --json of the test"
            )


def _is_given(context: click.Context, field: str) -> bool:
    source = context.get_parameter_source(field)
    return source not in (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def _recorded(field: str, value: Any) -> Any:
    """Return an option's value as JSON gives it back; None if it is not set."""
    if field == "n_decoys" and value == AUTOMATIC:
        return None
    return list(value) if isinstance(value, tuple) else value


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def arguments_of(
    name: str, options: Mapping[str, Any], inputs: Mapping[str, Sequence[str]]
) -> list[str]:
    """Put a command line together.

    Args:
        name: the command.
        options: values by parameter; of others than the command's own options nothing is taken.
        inputs: paths by parameter.

    Returns:
        Arguments for the command's parser, which checks types and ranges once more.

    Raises:
        EvidenceError: an option that the command does not have, or may not be given again.
    """
    entry, command = recordable(name), leaf_command(name)
    unknown = sorted({*options} - entry.options) + sorted(
        {*inputs} - {*entry.inputs, *COMMON_INPUTS}
    )
    if unknown:
        raise EvidenceError(f"the bundle gives {name} what it may not be given: {unknown[0]!r}")
    words: list[str] = []
    positional: list[str] = []
    for parameter in command.params:
        field = str(parameter.name)
        values: list[Any] = list(inputs.get(field, ()))
        if options.get(field) is not None:
            values = [options[field]]
        if isinstance(parameter, click.Argument):
            positional += map(str, values)
        else:
            words += [word for value in values for word in _words(parameter, value)]
    return [*words, "--", *positional]


def check_options(
    name: str, options: Mapping[str, Any], inputs: Mapping[str, Sequence[str]]
) -> None:
    """Check that options are what the command's parser makes of them: all of them, as recorded.

    One that is left out, or null in place of a default, would hide what was tested.

    Args:
        name: the command.
        options: values by parameter.
        inputs: paths by parameter.

    Raises:
        EvidenceError: one is left out, unknown, refused, or recorded otherwise.
    """
    arguments = arguments_of(name, options, inputs)
    entry, command = recordable(name), leaf_command(name)
    fields = [str(one.name) for one in command.params if one.name in entry.options]
    if missing := sorted(set(fields) - options.keys()):
        raise EvidenceError(f"the bundle leaves out the option {missing[0]!r} of {name}")
    words = [f"{key_option(name)}=KEY", *arguments]
    try:
        parsed = command.make_context(f"heirmark {name}", words).params
    except click.ClickException as error:
        raise EvidenceError(f"{name} refuses its options: {error.format_message()}") from None
    except (ValueError, OverflowError, click.exceptions.Exit, click.Abort):
        raise EvidenceError(f"{name} refuses its options") from None
    for field in fields:
        if _recorded(field, parsed[field]) != options[field]:
            raise EvidenceError(f"{name} does not take its option {field!r} as the bundle has it")


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    """Write one option; `--name=value` keeps a value that begins with a dash a value."""
    option = parameter.opts[0]
    assert isinstance(parameter, click.Option)
    if parameter.is_flag:
        return [option] if value is True else []
    if parameter.nargs != 1 and isinstance(value, tuple | list):
        return [option, *map(str, value)]
    if parameter.multiple and isinstance(value, tuple | list):
        return [f"{option}={item}" for item in value]
    return [f"{option}={value}"]


def key_option(name: str) -> str:
    """Return the option that names a command's key file, for example "--key"."""
    wanted = recordable(name).key
    return next(one.opts[0] for one in leaf_command(name).params if one.name == wanted)


def kinds_of(name: str, options: Mapping[str, Any]) -> dict[str, InputKind]:
    """Return what the parameters of a command point to, given its options."""
    kinds = {**COMMON_INPUTS, **recordable(name).inputs}
    if options.get("access") == "weights":
        weights = {f: InputKind.MODEL for f, k in kinds.items() if k is InputKind.SUSPECT}
        kinds |= weights
    return kinds
