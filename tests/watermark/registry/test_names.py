from __future__ import annotations

import pytest

from watermark.errors import RegistryError
from watermark.keyring.labels import KeyLabels
from watermark.registry.names import check_labels, check_reason

BAD = {
    "empty": ("", "at least one label"),
    "long": ("x" * 201, "201 characters; at most 200"),
    "huge": ("x" * 1_000_000, "1000000 characters"),
    "NUL": ("a\0b", "cannot be seen or stored"),
    "line": ("a\nb", "cannot be seen or stored"),
    "escape": ("\x1b[31mred", "cannot be seen or stored"),
    "right to left": ("a\u202eb", "cannot be seen or stored"),
    "zero width": ("a\u200bb", "cannot be seen or stored"),
    "half a pair": ("\ud83d", "cannot be seen or stored"),
    "blank": ("a ", "begins or ends with a blank"),
    **{
        f"unseen {ord(c):X}": (f"a{c}b", "cannot be seen or stored")
        for c in "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180d\u2800\u3164\ufe00\ufe0f\uffa0"
        "\U000e0100\U000e01ef"
    },
    **{f"blank {ord(c):X}": (f"a{c}b", "not the usual one") for c in "\u00a0\u2003\u3000\u1680"},
    "private": ("a\ue000b", "no agreed meaning"),
    "not assigned": ("a\u0378b", "no agreed meaning"),
    "decomposed": ("e\u0301", "NFC"),
}


@pytest.mark.parametrize("case", list(BAD))
@pytest.mark.parametrize("label", ["model", "account", "purpose"])
def test_names_that_could_be_taken_for_others(case: str, label: str) -> None:
    name, expected = BAD[case]
    with pytest.raises(RegistryError, match=expected) as caught:
        check_labels(KeyLabels(**{label: name}))
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["Ärzte & Söhne", "a b", "株式会社", "\u0430cme", "🙂", "हिन्दी"])
def test_what_can_be_seen_is_taken(name: str) -> None:
    """Also look-alikes: the first letter of one is Cyrillic."""
    check_labels(KeyLabels(account=name))


def test_the_longest_name_is_taken() -> None:
    check_labels(KeyLabels(account="x" * 200))


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "two\nlines", "\ud800"])
def test_reasons_that_cannot_be_kept(reason: str) -> None:
    with pytest.raises(RegistryError, match="a reason"):
        check_reason(reason)


def test_a_reason_loses_its_outer_blanks() -> None:
    assert check_reason(" closed ") == "closed"
