"""The words and numbers of a report: p-values in human form, verdicts and reasons in sentences."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Final

__all__ = [
    "NULL_HYPOTHESES",
    "REASONS",
    "ROLES",
    "SCORED",
    "TOPICS",
    "VERDICTS",
    "headline",
    "odds_parts",
    "percent",
    "plain",
    "round_sci",
    "superscript",
    "visible",
]

SCORED: Final = "scored"
_PLAIN_FROM: Final = -3.0
_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# No line ends inside a number.
_TIMES: Final = "\u00a0×\u00a0"
_REPLACEMENT: Final = "\ufffd"
# They reorder or hide text. The joiners U+200C and U+200D, which scripts and emoji need, stay.
_UNSEEN: Final = frozenset(
    map(chr, (0xAD, 0x61C, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, *range(0x202A, 0x202F),
              *range(0x2066, 0x206A), *range(0xFFF9, 0xFFFC)))
)  # fmt: skip

VERDICTS: Final = MappingProxyType(
    {"signal": "Signal", "no_signal": "No signal", "inconclusive": "Inconclusive"}
)

TOPICS: Final = MappingProxyType(
    {
        "text": "One document",
        "corpus": "A corpus",
        "probe": "A suspect model",
        "demo": "Demonstration on a real model",
        "segments": "Marked segments of one document",
        "fraction": "The marked share of a corpus",
        "profiles": "One document, and which deployment made it",
        "watch": "A suspect’s answers, one by one",
        "power": "What a test would need",
        "counterfactuals": "A suspect model, by the provider’s logs",
        "trace_text": "Texts, and whose account they came from",
        "trace_model": "A suspect model, and whose key it learned from",
        "calibration": "False positives on one’s own text",
    }
)

_HEADLINES: Final = MappingProxyType(
    {
        ("text", "signal"): "This text carries the key’s mark.",
        ("text", "no_signal"): "No mark was found in this text.",
        ("text", "inconclusive"): "This text cannot be judged either way.",
        ("corpus", "signal"): "This corpus contains marked text.",
        ("corpus", "no_signal"): "No mark was found in this corpus.",
        ("corpus", "inconclusive"): "This corpus cannot be judged either way.",
        ("probe", "signal"): "The suspect has inherited the mark.",
        ("probe", "no_signal"): "No inherited mark was found in the suspect.",
        ("probe", "inconclusive"): "The suspect cannot be judged from this probe.",
        ("segments", "signal"): "This document contains marked text.",
        ("segments", "no_signal"): "No marked segment was found in this document.",
        ("segments", "inconclusive"): "This document cannot be judged either way.",
        ("fraction", "signal"): "This corpus contains marked text.",
        ("fraction", "no_signal"): "No mark was found in this corpus.",
        ("fraction", "inconclusive"): "This corpus cannot be judged either way.",
        ("profiles", "signal"): "This text carries the mark of a deployment.",
        ("profiles", "no_signal"): "No deployment’s mark was found in this text.",
        ("profiles", "inconclusive"): "This text cannot be judged either way.",
        ("watch", "signal"): "The answers carry the key’s mark.",
        ("watch", "no_signal"): "No mark was found in these answers.",
        ("watch", "inconclusive"): "These answers cannot be judged either way yet.",
        ("counterfactuals", "signal"): "The suspect knows answers that were logged.",
        ("counterfactuals", "no_signal"): "The suspect shows no knowledge of the logged answers.",
        ("counterfactuals", "inconclusive"): "The suspect cannot be judged from these logs.",
        ("trace_text", "signal"): "The evidence points to an account.",
        ("trace_text", "no_signal"): "No account is named.",
        ("trace_text", "inconclusive"): "No account is named, and none is cleared.",
        ("trace_model", "signal"): "The suspect depends on a key.",
        ("trace_model", "no_signal"): "No mark was found under any of the keys.",
        ("trace_model", "inconclusive"): "The suspect cannot be judged from this trace.",
        ("demo", "signal"): "The student inherited the mark; the clean models did not.",
        ("demo", "no_signal"): "The student shows no inherited mark in this run.",
        ("demo", "inconclusive"): "This run decides nothing.",
    }
)

NULL_HYPOTHESES: Final = MappingProxyType(
    {
        "text": "The text is independent of the key: the keyed words of its distinct (context, "
        "token) pairs are then independent and uniform, whatever its language, author or model.",
        "corpus": "Every document is independent of the key: the keyed words of the corpus’s "
        "distinct (context, token) pairs are then independent and uniform.",
        "probe": "What the suspect says is independent of the key: it has learned nothing, "
        "directly or indirectly, from text that was marked with it.",
        "segments": "No part of the document depends on the key: the keyed words that a window "
        "counts are then independent and uniform.",
        "fraction": "No document depends on the key: the keyed words of the corpus’s scored "
        "tokens, each context in one document, are then independent and uniform.",
        "profiles": "The text is independent of the keys of all deployments that were searched.",
        "watch": "What the suspect says is independent of the key. The p-value holds however "
        "often one looks and whenever one stops.",
        "counterfactuals": "Which possible answer was logged is independent of the suspect.",
        "trace_text": "The texts are independent of the keys of all accounts that were searched.",
        "trace_model": "The suspect is independent of every key under test.",
        "demo": "Each step tests that what it looks at is independent of a key that was drawn "
        "fresh for this run.",
    }
)

ROLES: Final = MappingProxyType({"claim": "the claim"})

REASONS: Final = MappingProxyType(
    {
        SCORED: "Counted in the p-value.",
        "border": "Part of a border between reasoning and answer.",
        "unmarked_channel": "It stands in reasoning, which this deployment does not mark.",
        "no_context": "Too few tokens stand before it, in the text or since a border of its "
        "reasoning: such tokens are never marked.",
        "special_token": "A special token, which the model does not choose as text.",
        "special_context": "A special token stands in its context, or one for which the mark has "
        "no key.",
        "context_in_prompt": "Its context could have been copied from the prompt.",
        "repeated_context": "Its context occurred earlier in the same text, where the mark pauses.",
        "low_entropy": "By the reference model, it had so little choice that this deployment does "
        "not mark it.",
        "repeated_pair": "The same context and token were counted already; a pair counts once.",
        "pair_in_earlier_answer": "The same context and token were counted in an earlier answer; "
        "a pair counts once.",
        "not_reported": "The endpoint reported no candidates that begin where this token does.",
        "context_in_earlier_text": "Its context was read in an earlier text; each counts once.",
        "context_in_another_prompt": "Its context could have been copied from another prompt.",
        "context_in_other_document": "Its context is scored in another document; each context "
        "counts in one.",
        "pair_in_earlier_document": "The same context and token were counted in an earlier "
        "document; a pair counts once.",
    }
)


def _mantissa(log10_value: float) -> tuple[str, int]:
    exponent = math.floor(log10_value)
    mantissa = f"{10 ** (log10_value - exponent):.1f}"
    return ("1.0", exponent + 1) if mantissa == "10.0" else (mantissa, exponent)


def round_sci(log10_value: float) -> tuple[str, int | None]:
    """Round a positive number, given by its log10, to two digits that a person can read.

    Args:
        log10_value: log10 of the number; any finite size, below the smallest double too.

    Returns:
        (digits, exponent) for digits x 10^exponent, or (digits, None) for a plain number
        (0.001 to 1).
    """
    if _PLAIN_FROM <= log10_value <= 0.0:
        return f"{10**log10_value:.2g}", None
    return _mantissa(log10_value)


def superscript(exponent: int) -> str:
    """Write an integer in Unicode superscripts, for titles and labels without markup.

    Args:
        exponent: the integer.

    Returns:
        For example "⁻¹²".
    """
    return str(exponent).translate(_SUPERSCRIPTS)


def percent(share: float) -> str:
    """Write a share to three digits.

    Args:
        share: in [0, 1].

    Returns:
        For example "6.47%" or "0.004%".
    """
    return f"{float(f'{100 * share:.3g}'):g}%"


def plain(log10_value: float) -> str:
    """Write a positive number, given by its log10, in text without markup.

    Args:
        log10_value: log10 of the number; any finite size.

    Returns:
        For example "0.02", "37" or "4.2 × 10¹²", with spaces that do not break.
    """
    if _PLAIN_FROM <= log10_value < -_PLAIN_FROM:
        return f"{float(f'{10**log10_value:.3g}'):g}"
    digits, exponent = _mantissa(log10_value)
    lead = "" if digits == "1.0" else f"{digits}{_TIMES}"
    return f"{lead}10{superscript(exponent)}"


def odds_parts(log10_p: float) -> tuple[str, str, str, bool]:
    """Say how often the null hypothesis alone gives evidence at least this strong.

    Args:
        log10_p: log10 of the p-value.

    Returns:
        The end of a sentence, cut around its number, for example ("about once in ",
        "2.5 × 10¹²", " tries"), and whether the number is the chance itself, not its inverse.
    """
    if log10_p > math.log10(0.05):
        return "in about ", f"{100 * 10**log10_p:.0f} of 100", " tries", True
    if log10_p > -6.0:
        return "about once in ", f"{float(f'{10**-log10_p:.2g}'):,.0f}", " tries", False
    digits, exponent = _mantissa(-log10_p)
    return "about once in ", f"{digits}{_TIMES}10{superscript(exponent)}", " tries", False


def headline(kind: str, verdict: str) -> str:
    """State the finding in one sentence.

    Args:
        kind: kind of a result that has a verdict.
        verdict: "signal", "no_signal" or "inconclusive".

    Returns:
        The sentence.
    """
    return _HEADLINES[kind, verdict]


def _visible_character(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0x80 <= code < 0xA0 or character in _UNSEEN:
        return f"[U+{code:04X}]"
    return _REPLACEMENT if 0xD800 <= code < 0xE000 else character


def visible(text: str) -> str:
    """Make characters visible that could hide or reorder text, or that a page cannot hold.

    Args:
        text: any string, lone surrogates included.

    Returns:
        The text with control characters as pictures, bidirectional marks and zero-width characters
        spelled out, and lone surrogates replaced; newlines and tabs are kept.
    """
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible_character, text))
