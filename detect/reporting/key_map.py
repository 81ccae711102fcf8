"""Shows a trace of a model: the keys on a map of cohorts and epochs, and how the signal spreads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from detect.reporting.accounts import revoked_words
from detect.reporting.bare_controls import BareControl, read_bare_controls, refuse_signal_beside
from detect.reporting.exhibits import Exhibit, Figure
from detect.reporting.fields import Fields
from detect.reporting.reader import FIRES_AT, DecoysView, read_decoys, read_log10_p
from detect.reporting.shown import Words, count, percent, say
from detect.reporting.sourced import derived
from detect.reporting.words import VERDICTS

__all__ = ["Grid", "KeyMap", "KeyView", "SpreadView", "read_key_map"]

_CONCLUSIONS: Final = MappingProxyType(
    {"one_key": "", "several_keys": "", "no_signal": "", "undecided": ""}
)
# Lower ends of the colours, as powers of the level; above 0.01 there is none.
_QUIET: Final = math.log10(0.01)
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True)
class KeyView:
    """One key: where it stands on the map, its own and its corrected p-value, its controls.

    `level`: its colour, 1 (none) to 5. `revoked`: since when others may know it, in words, or "".
    """

    name: str
    key_id: str
    place: tuple[str, str, str]
    log10_p: float
    log10_p_adjusted: float
    z: float
    n_scored: int
    verdict: str
    decoys: DecoysView | None
    controls: tuple[BareControl, ...]
    level: int
    revoked: str
    is_named_revoked: bool

    @property
    def strongest_control(self) -> BareControl | None:
        """The control with the smallest p-value."""
        return min(self.controls, key=lambda control: control.log10_p or 0.0, default=None)


@dataclass(frozen=True, slots=True)
class Grid:
    """Keys of one model by cohort (rows) and epoch (columns); a cell may be empty."""

    model: str
    epochs: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[KeyView, ...], ...]], ...]


@dataclass(frozen=True, slots=True)
class SumView:
    """A test of several keys, or of one key's part, with what was chosen paid for."""

    what: str
    log10_p: float | None
    z: float


@dataclass(frozen=True, slots=True)
class LeakView:
    """The best key's part against what a leak gives it; shares in [0, 1]."""

    share_at_least: float | None
    share_allowed: float
    traffic_share: float
    by_traffic: bool
    n_presumed: int | None
    n_documents: int | None
    chances: tuple[tuple[int, float | None], ...]


@dataclass(frozen=True, slots=True)
class SpreadView:
    """Whether the signal is one key's or spread over several."""

    sums: tuple[SumView, ...]
    leak: LeakView | None


@dataclass(frozen=True, slots=True)
class KeyMap:
    """What the template reads."""

    grids: tuple[Grid, ...]
    keys: tuple[KeyView, ...]
    best: str
    spread: SpreadView
    controls: tuple[BareControl, ...]
    level: float
    fires_at: float
    has_revoked: bool


def read_key_map(fields: Fields) -> Exhibit:
    """Read what `heirmark trace model` found.

    Args:
        fields: the result.

    Returns:
        The exhibit.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    # Results of before the level was shared out have none.
    level = fields.number("level_of_each" if fields.has("level_of_each") else "alpha")
    if not 0 < level <= fields.number("alpha"):
        raise fields.refusal("level_of_each", "a number above 0, at most alpha")
    keys = tuple(_key(key, level) for key in fields.objects("cohorts"))
    if not keys:
        raise fields.refusal("cohorts", "a list with at least one key")
    controls = read_bare_controls(fields)
    _check(fields, keys, controls)
    ranked = sorted(keys, key=lambda key: (key.log10_p_adjusted, -key.z))
    best = fields.text("best")
    spread = fields.inner("spread")
    n_keys = count(derived(len(keys), f"len({fields.path('cohorts')})"))
    n_found = say("{} of {}", count(spread.count("n_significant")), n_keys)
    figures: tuple[Figure, ...] = (
        Figure("Strongest key", best, ""),
        Figure("Keys with signal", n_found, "all of them paid for"),
    )
    if named := fields.sentences("named_revoked"):
        n_revoked = count(derived(len(named), f"len({fields.path('named_revoked')})"))
        figures = (
            *figures,
            Figure("Revoked keys found", n_revoked, "others may know them; nothing is concluded"),
        )
    has_revoked = any(key.revoked for key in keys)
    shown = _spread(spread, best, has_revoked=has_revoked)
    view = KeyMap(_grids(keys), tuple(ranked), best, shown, controls, level, FIRES_AT, has_revoked)
    headline = _headline(fields.choice("conclusion", _CONCLUSIONS), fields, best)
    sentence = fields.text("conclusion_in_words")
    return Exhibit("key_map.html", figures, view, headline, sentence)


def _headline(conclusion: str, fields: Fields, best: str) -> Words:
    if conclusion == "one_key":
        part = fields.inner("spread").inner("concentration").number("share_allowed")
        share: Words = "half" if part == _HALF else percent(part)
        return say("More than {} of the suspect’s signal is {}’s.", share, best)
    if conclusion == "several_keys":
        return "The suspect’s signal is spread over several keys."
    if conclusion == "no_signal":
        return "No mark was found under any of the keys."
    if fields.raw("verdict") == "signal":
        return say("The suspect depends on {}; whether on it alone is not decided.", best)
    if fields.sentences("named_revoked"):
        return "The suspect depends on a revoked key, which others may know: nothing is concluded."
    return "The suspect cannot be judged from this trace."


def _check(fields: Fields, keys: Sequence[KeyView], controls: Sequence[BareControl]) -> None:
    """Refuse a conclusion that the numbers beside it contradict."""
    verdict, conclusion = fields.raw("verdict"), fields.raw("conclusion")
    if (conclusion == "one_key") > (verdict == "signal"):
        raise fields.refusal("conclusion", "another one where the verdict is not signal")
    if (conclusion == "no_signal") != (verdict == "no_signal"):
        raise fields.refusal("conclusion", "no_signal where, and only where, the verdict is that")
    revoked = {key.name for key in keys if key.revoked}
    named = [key.name for key in keys if key.is_named_revoked]
    if sorted(fields.sentences("named_revoked")) != sorted(named) or not revoked >= {*named}:
        raise fields.refusal("named_revoked", "a list of the revoked keys that show a signal")
    if fields.text("best") in revoked:
        raise fields.refusal("best", "a key that was not revoked")
    if any(key.verdict == "signal" for key in keys if key.revoked):
        raise fields.refusal("cohorts", "no verdict of signal for keys that were revoked")
    refuse_signal_beside(fields, [*controls, *(c for key in keys for c in key.controls)])


def _key(key: Fields, level: float) -> KeyView:
    own, adjusted = read_log10_p(key, "log10_p"), read_log10_p(key, "log10_p_adjusted")
    if own is None or adjusted is None or adjusted < own - 1e-9:
        raise key.refusal("log10_p_adjusted", "a number, not below the key's own log10_p")
    name = key.text("name")
    labels = key.inner("labels")
    model, epoch = labels.text("model", ""), labels.text("epoch", "")
    rest = [labels.text(label, "") for label in ("cohort", "account", "purpose")]
    group = "/".join(filter(None, rest)) or ("" if epoch or model else name)
    return KeyView(
        name=name,
        key_id=key.text("key_id"),
        place=(model, group, epoch),
        log10_p=own,
        log10_p_adjusted=adjusted,
        z=key.number("z"),
        n_scored=key.count("n_scored"),
        verdict=key.choice("verdict", VERDICTS),
        decoys=read_decoys(key),
        controls=read_bare_controls(key),
        level=_level(adjusted, math.log10(level)),
        revoked=revoked_words(key),
        is_named_revoked=key.raw("named_revoked") is True,
    )


def _level(log10_p: float, log10_level: float) -> int:
    if log10_p > _QUIET:
        return 1
    if log10_p > log10_level / 2:
        return 2
    return 3 if log10_p > log10_level else 4 if log10_p > 2 * log10_level else 5


def _grids(keys: Sequence[KeyView]) -> tuple[Grid, ...]:
    return tuple(
        _grid(model, [key for key in keys if key.place[0] == model])
        for model in dict.fromkeys(key.place[0] for key in keys)
    )


def _grid(model: str, keys: Sequence[KeyView]) -> Grid:
    epochs = tuple(sorted(dict.fromkeys(key.place[2] for key in keys)))
    groups = tuple(dict.fromkeys(key.place[1] for key in keys))

    def cell(group: str, epoch: str) -> tuple[KeyView, ...]:
        return tuple(key for key in keys if key.place[1:] == (group, epoch))

    rows = tuple((group, tuple(cell(group, epoch) for epoch in epochs)) for group in groups)
    return Grid(model, epochs, rows)


def _spread(spread: Fields, best: str, *, has_revoked: bool) -> SpreadView:
    alone = spread.inner("concentration") if spread.has("concentration") else None
    left_out = ", revoked ones left out" if has_revoked else ""
    sums = [
        _sum("All keys together" + left_out, spread.inner("pooled")),
        _sum(f"All keys but {best}" + left_out, spread.inner("others")),
    ]
    if alone is None:
        return SpreadView(tuple(sums), None)
    part = SumView(
        f"More of it is {best}’s than a leak would give",
        read_log10_p(alone, "log10_p_adjusted"),
        alone.number("z"),
    )
    return SpreadView((*sums, part), _leak(alone))


def _sum(what: str, test: Fields) -> SumView:
    return SumView(what, read_log10_p(test, "log10_p_adjusted"), test.number("z"))


def _leak(alone: Fields) -> LeakView:
    chances = tuple(
        (case.count("documents"), read_log10_p(case, "log10_p"))
        for case in alone.objects("by_documents")
    )
    return LeakView(
        alone.maybe_number("share_at_least"),
        alone.number("share_allowed"),
        alone.number("traffic_share"),
        alone.raw("by_traffic") is True,
        alone.maybe_count("presumed_documents"),
        alone.maybe_count("documents_needed"),
        chances,
    )
