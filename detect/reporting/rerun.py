"""The command that runs a test again: as recorded, else with the settings that the result holds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from detect.reporting.fields import Fields
from detect.reporting.shown import Words, literal, say
from detect.scoring.scorers import SCORES

__all__ = ["Command", "command_of"]

# Before a word, and before an option: each on a line of its own, as a shell reads it too.
_NEXT: Final = (" ", " \\\n  ")
# What a reader must fill in stands in capitals. --config: the fingerprint below says whether it is
# the right one.
_DEPLOYMENT: Final = " --key KEY.key.json --config CONFIG.json --tokenizer TOKENIZER"
_TRACED: Final = " --config CONFIG.json --tokenizer TOKENIZER"
# By where the keys came from; results that do not say so are of a folder's.
_FAMILIES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "trace_text": {
            "folder": " --keys FOLDER",
            "accounts": " --master MASTER.key.json --accounts ACCOUNTS.jsonl",
            "registry": " --master MASTER.key.json --registry REGISTRY",
        },
        "trace_model": {
            "folder": " --keys FOLDER",
            "accounts": " --master MASTER.key.json --labels LABELS.jsonl",
        },
    }
)
_COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "text": "heirmark detect TEXT" + _DEPLOYMENT,
        "profiles": "heirmark detect TEXT --profiles FOLDER",
        "corpus": "heirmark scan CORPUS" + _DEPLOYMENT,
        "probe": "heirmark probe SUSPECT --control CONTROL" + _DEPLOYMENT,
        "segments": "heirmark locate TEXT" + _DEPLOYMENT,
        "fraction": "heirmark fraction CORPUS --reference MARKED" + _DEPLOYMENT,
        "watch": "heirmark watch ANSWERS.jsonl" + _DEPLOYMENT,
        "counterfactuals": "heirmark counterfactuals test LOGS --suspect SUSPECT",
        "power": "heirmark power --config CONFIG.json",
        "calibration": "heirmark calibrate CORPUS" + _DEPLOYMENT,
        "demo": "heirmark demo",
        "trace_text": "heirmark trace text SOURCE" + _TRACED,
        "trace_model": "heirmark trace model SUSPECT --control CONTROL" + _TRACED,
    }
)
# Numbers that were settings of the run and stand in its result, by the option's name.
_SETTINGS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        "power": (
            ("access", "access"),
            ("alpha", "alpha"),
            ("power", "power"),
            ("share", "share"),
            ("answer-tokens", "answer_tokens"),
            ("budget", "budget"),
        ),
        "calibration": (("keys", "n_keys"), ("seed", "seed")),
        "probe": (("access", "access"), ("alpha", "alpha"), ("score", "score")),
        "trace_text": (("alpha", "alpha"), ("score", "score"), ("piece", "piece_tokens")),
        "trace_model": (
            ("access", "access"),
            ("alpha", "alpha"),
            ("leaked-documents", "leaked_documents"),
        ),
        "fraction": (("level", "fraction.level"), ("alpha", "alpha"), ("score", "score")),
        "counterfactuals": (("alpha", "alpha"),),
        "demo": (),
    }
)
_COMMON: Final = (("alpha", "alpha"), ("score", "score"))


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and whether it is the recorded one or a pattern to be filled in."""

    text: Words
    is_recorded: bool


def command_of(fields: Fields) -> Command:
    """Read or make up the command that gives a result.

    Args:
        fields: the result; its field "command", if it has one, is a line or a list of words.

    Returns:
        The command.

    Raises:
        ResultError: a field is malformed.
    """
    if isinstance(fields.raw("command"), (list, tuple)):
        words = [shlex.quote(word) for word in fields.sentences("command")]
        line = " ".join(words[:1]) + "".join(
            _NEXT[word.startswith("-")] + word for word in words[1:]
        )
        return Command(line, is_recorded=True)
    if fields.has("command"):
        return Command(fields.text("command"), is_recorded=True)
    kind = fields.text("kind")
    pattern = _COMMANDS[kind] + _given(kind, fields)
    parts: list[Words] = [pattern.replace(" --", f"{_NEXT[True]}--")]
    for option, name in _SETTINGS.get(kind, _COMMON):
        parts += _option(option, fields, name)
    decoys = fields.inner("decoys")
    parts += _option("decoys", decoys, "n_decoys") + _option("seed", decoys, "seed")
    return Command(say("{}" * len(parts), *parts), is_recorded=False)


def _given(kind: str, fields: Fields) -> str:
    """Name the files that the run was given besides, each to be filled in."""
    if kind not in _FAMILIES:
        return ""
    families = _FAMILIES[kind]
    words = families[fields.choice("family", families) if fields.has("family") else "folder"]
    if kind == "trace_text":
        words += " --prompt PROMPT" if fields.raw("prompt") is True else ""
        return words + (" --reference MARKED --reference-key KEY" if fields.has("shares") else "")
    words += " --reading TEXTS.jsonl" if fields.raw("access") == "weights" else ""
    return words + (" --served SERVED.json" if fields.inner("used").has("served") else "")


def _option(option: str, fields: Fields, path: str) -> list[Words]:
    *outer, name = path.split(".")
    for part in outer:
        fields = fields.inner(part)
    value = fields.raw(name)
    # A score that a reference or the scheme brings along is no choice of the command line.
    if value is None or (option == "score" and value not in SCORES):
        return []
    if isinstance(value, str):
        return [f"{_NEXT[True]}--{option} ", shlex.quote(fields.text(name))]
    number = fields.count(name) if isinstance(value, int) else fields.number(name)
    return [f"{_NEXT[True]}--{option} ", literal(number)]
