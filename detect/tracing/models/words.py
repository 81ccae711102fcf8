"""What a trace of a model says in words, and what it does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from detect.results import format_p

if TYPE_CHECKING:
    from detect.tracing.models.findings import Concentrated
    from detect.tracing.models.result import ModelTrace

__all__ = ["limits_of", "sentence_of"]

_PRESUMED: Final = (
    "Leak or campaign: the test bounds one key's part of the signal that was found under the keys "
    "under test. It presumes that a document leaves the same trace under each key: the same mark "
    "at the same strength (a cohort whose mark is boosted leaves more), and prompts or reading "
    "texts that are no nearer to one cohort's subjects than to another's. Traffic under keys that "
    "are not under test is not seen."
)
_SEVERAL: Final = (
    "A signal under several keys is what marked text in public leaves, and what a campaign over "
    "several cohorts or epochs leaves; the test does not tell these apart."
)


_REVOKED: Final = (
    "Revoked keys ({names}) were tested and paid for, and nothing is concluded from them: they are "
    "not part of what all keys show together, nor of what the best key's part is measured against. "
    "Whoever knows such a key can publish text with its mark, or without it, and a model learns it."
)


def sentence_of(trace: ModelTrace) -> str:
    """Say in one or two sentences what was concluded."""
    name, n = trace.best.named.name, len(trace.traced)
    match trace.conclusion:
        case "one_key":
            assert trace.concentrated is not None
            return (
                f"The suspect depends on {name} (p = {format_p(trace.best.log10_p_adjusted)}, "
                f"{n} keys paid for), and more than {trace.concentrated.leak.share:.0%} of the "
                f"signal is that key's (p = {format_p(trace.concentrated.log10_p_adjusted)}): "
                f"{_no_leak(trace.concentrated)}"
            )
        case "several_keys":
            return _several(trace)
        case "no_signal":
            return f"No signal under any of the {n} keys, nor under {_together(trace)}."
        case _:
            return _undecided(trace)


def _together(trace: ModelTrace) -> str:
    return "those together that were not revoked" if trace.revoked else "all of them together"


def _no_leak(alone: Concentrated) -> str:
    if not alone.by_traffic:
        return "not what a leak would leave in which this key had at most half of the documents."
    return (
        "not what a leak by traffic would leave, of which this key served "
        f"{alone.leak.traffic:.1%}, if it held {_presumed(alone)}."
    )


def _presumed(alone: Concentrated) -> str:
    return (
        f"at least {alone.leak.documents:,} independent documents of equal trace, or as many by "
        "effective number"
    )


def _several(trace: ModelTrace) -> str:
    found = trace.significant
    if not found:
        return (
            f"No single key is significant, but {_together(trace)} are (p = "
            f"{format_p(trace.pooled.tail.log10_p)}): the signal is spread over several keys."
        )
    names = ", ".join(key.named.name for key in found)
    return (
        f"The suspect depends on several keys: {names} by "
        f"{'themselves' if len(found) > 1 else 'itself'}, and all but {trace.best.named.name} "
        f"together with p = {format_p(trace.others_adjusted)}. It is not one key's signal alone."
    )


def _undecided(trace: ModelTrace) -> str:
    if reasons := trace.holds_back:
        return " ".join(reasons)
    if not trace.significant and trace.significant_revoked:
        names = ", ".join(key.named.name for key in trace.significant_revoked)
        return (
            f"The suspect depends on {names}, but others may know what was revoked and may have "
            "published text under it: that says nothing of whose answers it learned from. No other "
            f"key reaches its level (half of {trace.alpha:g}), nor do the others together."
        )
    if not trace.significant:
        return (
            f"No key reaches its level (half of {trace.alpha:g}), nor do all keys together, and "
            "too little was scored, or too much shows, to say that there is nothing."
        )
    name, alone = trace.best.named.name, trace.concentrated
    depends = (
        f"The suspect depends on {name} (p = {format_p(trace.best.log10_p_adjusted)}), but whether "
        "the signal is that key's alone cannot be told"
    )
    if not trace.others_are_quiet:
        return (
            f"{depends}: the other keys together are not quiet (p = "
            f"{format_p(trace.others_adjusted)}). More answers or reading texts decide it."
        )
    if alone is None:
        return f"{depends}: no bound is known for this mark, whose words depend on each other."
    of = f" of {_presumed(alone)}" if alone.by_traffic else ""
    return (
        f"{depends}: that a leak{of} gives it up to {alone.leak.share:.0%} of the signal is not "
        f"ruled out (p = {format_p(alone.log10_p_adjusted)}). More answers or reading texts decide "
        "it."
    )


def limits_of(trace: ModelTrace) -> list[str]:
    """List what the result does not show."""
    return [
        *trace.best.probed.to_dict()["limits"],
        f"A key names a cohort or an epoch, not an account. {trace.arithmetic}",
        _PRESUMED,
        *([_SEVERAL] if trace.conclusion == "several_keys" else ()),
        *_of_revoked(trace),
        *_of_chance(trace),
        *_of_size(trace),
    ]


def _of_revoked(trace: ModelTrace) -> list[str]:
    names = ", ".join(key.named.name for key in trace.revoked)
    return [_REVOKED.format(names=names)] if names else []


def _of_chance(trace: ModelTrace) -> list[str]:
    alone = trace.concentrated
    if alone is None:
        return []
    needed = alone.to_dict(trace.alpha)["documents_needed"]
    traffic = (
        f"had {alone.leak.traffic:.1%} of the traffic"
        if alone.by_traffic
        else f"had {alone.leak.traffic:.1%} of the traffic, as it would if all keys had the same"
    )
    if needed is None:
        return [f"If {trace.best.named.name} {traffic}, a leak alone explains its part."]
    return [
        f"A leak of few documents is concentrated by chance. If {trace.best.named.name} {traffic}, "
        f"chance gives it {alone.leak.share:.0%} of {needed} or more independent documents with a "
        f"probability of at most {trace.alpha:g}. They are counted by effective number, 1 / sum "
        "w^2 with w a document's part of the trace: a few long or often repeated ones among many "
        "count as few. A leak of fewer, for example of one account of that cohort, cannot be told "
        "from a campaign."
    ]


def _of_size(trace: ModelTrace) -> list[str]:
    if trace.least_share is None:
        return [
            "Planned with the effects that are known, too little was scored to find even a key "
            "that was served all of what the suspect learned from."
        ]
    return [
        "Planned with the effects that are known, what was scored finds a key (90 % power) if it "
        f"was served {trace.least_share:.1%} or more of what the suspect learned from; smaller "
        "parts pass unseen."
    ]
