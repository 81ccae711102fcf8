"""What was tested, in one sentence for each kind of result."""

from __future__ import annotations

from detect.reporting.fields import Fields
from detect.reporting.shown import Words, count, say
from detect.reporting.sourced import derived

__all__ = ["key_ids", "tested_of"]


def tested_of(fields: Fields, kind: str, subject: str, scheme: Words) -> Words:
    """Say what was tested.

    Args:
        fields: the result.
        kind: its kind.
        subject: name of the suspect or the source, "" for none.
        scheme: its scheme's name.

    Returns:
        One or two sentences.

    Raises:
        ResultError: a field that they name is missing or malformed.
    """
    if kind == "trace_text":
        return say(
            "Whether the scored tokens depend on any of {} keys under the scheme {}. Every p-value "
            "that names an account pays for having searched them all.",
            count(fields.count("n_keys")),
            scheme,
        )
    key = say("the key {} under the scheme {}", key_ids(fields), scheme)
    if kind == "counterfactuals":
        return say(
            "Whether {} prefers what was logged to other answers that the model could have given "
            "under {}.",
            subject or "the suspect",
            key,
        )
    if kind == "text":
        return say("Whether the scored tokens of this text depend on {}.", key)
    if kind == "corpus":
        return say(
            "Whether the distinct (context, token) pairs of all documents depend on {}.", key
        )
    if kind == "segments":
        return say(
            "Whether windows of this document depend on {}: every window of a family that was "
            "fixed by its length alone, each p-value corrected for the whole family.",
            key,
        )
    if kind == "profiles":
        return say(
            "Whether the scored tokens of this text depend on the key of any deployment that could "
            "be named. The best is shown: {}.",
            key,
        )
    if kind == "fraction":
        return say("Whether the scored tokens of the corpus, pooled, depend on {}.", key)
    if kind == "watch":
        return say("Whether the distinct (context, token) pairs of all answers depend on {}.", key)
    if kind == "trace_model":
        n_keys = derived(len(fields.items("cohorts")), f"len({fields.path('cohorts')})")
        revoked = any(key.raw("revoked") is True for key in fields.objects("cohorts"))
        strongest = "strongest that was not revoked" if revoked else "strongest"
        return say(
            "Whether what {} says depends on any of {} keys under the scheme {}; the p-value above "
            f"is that of the {strongest}, times their number. Then, whether the signal is one "
            "key’s or spread over several.",
            subject or "the suspect",
            count(n_keys),
            scheme,
        )
    what = "next-token distributions" if fields.raw("access") == "weights" else "answers"
    named = isinstance(fields.raw("statistic"), str)
    by = f" Statistic: {fields.text('statistic')}." if named else ""
    subject = subject or "the suspect"
    return say("Whether the {} of {} depend on {}.{}", what, subject, key, by)


def key_ids(fields: Fields) -> str:
    """Read the public id of the key, or the ids of several.

    Args:
        fields: the result.

    Returns:
        The ids, with commas between them.

    Raises:
        ResultError: the field is missing or malformed.
    """
    if isinstance(fields.raw("key_id"), list):
        return ", ".join(fields.sentences("key_id"))
    # A search that scored nothing has no best key.
    return fields.text("key_id", "none" if fields.raw("kind") == "trace_text" else None)
