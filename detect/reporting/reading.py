"""What a p-value means and, as important, what it does not mean."""

from __future__ import annotations

from detect.reporting.shown import Words, odds, say

__all__ = ["reading"]


def reading(verdict: str, log10_p: float | None) -> Words:
    """Say in one or two sentences how a verdict and its p-value are to be read.

    Args:
        verdict: "signal", "no_signal" or "inconclusive".
        log10_p: log10 of the p-value, or None where the result has none.

    Returns:
        The sentences.
    """
    if verdict == "inconclusive":
        return "The evidence decides nothing in either direction, so it clears nobody."
    often = odds(log10_p)
    if verdict == "signal":
        return say(
            "If the null hypothesis were true, evidence this strong would come up {}.", often
        )
    return say(
        "If the null hypothesis were true, evidence at least this strong would come up {}. "
        "That is no ground for suspicion, and no proof of innocence either.",
        often,
    )
