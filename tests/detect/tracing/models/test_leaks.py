"""What a leak looks like: traffic, chance, and counters that cannot be right."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from detect.tracing.models.leaks import Traffic, chance_log10, documents_needed, read_served
from watermark.errors import ConfigError


def test_chance_is_bounded() -> None:
    for documents, traffic, share in ((40, 0.125, 0.5), (100, 0.3, 0.45), (10, 0.5, 1.0)):
        exact = math.log10(binom.sf(math.ceil(documents * share) - 1, documents, traffic))
        assert exact <= chance_log10(documents, traffic, share) + 1e-12
    # exp(-2 M (x - pi)^2).
    assert chance_log10(10, 0.5, 1.0) == pytest.approx(-5 / math.log(10))
    assert chance_log10(100, 0.3, 0.45) == pytest.approx(-4.5 / math.log(10))
    assert chance_log10(1000, 0.5, 0.5) == 0


@pytest.mark.parametrize("large", [0.2, 0.5, 0.8])
def test_documents_of_unequal_trace_are_bounded_by_their_effective_number(large: float) -> None:
    # One document leaves a large part of the trace, 1,000 share the rest.
    effective = 1 / (large**2 + (1 - large) ** 2 / 1000)
    for traffic, share in product((0.01, 0.125, 0.4), np.linspace(0.02, 1, 50)):
        # Exact: the large one is the key's or it is not.
        rest = [(share - part) / (1 - large) * 1000 for part in (large, 0.0)]
        tails = [float(binom.sf(math.ceil(count - 1e-9) - 1, 1000, traffic)) for count in rest]
        exact = traffic * tails[0] + (1 - traffic) * tails[1]
        assert exact <= 10 ** chance_log10(effective, traffic, float(share)) + 1e-12


def test_so_many_documents_are_needed() -> None:
    # ln(10^6) / (2 (3/8)^2) = 49.1.
    assert documents_needed(1 / 8, 0.5, 1e-6) == 50
    assert chance_log10(50, 1 / 8, 0.5) <= -6 < chance_log10(49, 1 / 8, 0.5)
    assert documents_needed(0.6, 0.5, 1e-6) is None


def test_without_counters_half_is_allowed() -> None:
    leak = Traffic().leak("c1", 8, 1e-7)
    assert (leak.share, leak.odds, leak.traffic) == (0.5, 1.0, 1 / 8)
    assert leak.log10_chance == -math.inf
    assert leak.to_dict(1e-6)["presumed_documents"] is None


@pytest.mark.parametrize("revoked", [0.1, 0.5, 0.9])
def test_a_part_of_what_was_not_revoked_is_bounded(revoked: float) -> None:
    """Exact, of M documents of equal trace: the key's part of those under keys compared."""
    served = {"c1": 100, "c2": 300, "gone": round(400 * revoked / (1 - revoked))}
    leak = Traffic(served, 60).leak("c1", 3, 1e-3, ["c1", "c2"])
    assert (leak.traffic, leak.part) == (0.25, pytest.approx(1 - revoked, abs=1e-3))
    compared = np.arange(61)
    weights = binom.pmf(compared, 60, leak.part)
    for share in {leak.share, 0.3, 0.6, 0.9} - {1.0}:
        # None of the compared keys' documents is no part of anything.
        above = binom.sf(np.ceil(share * compared) - 1, compared, leak.traffic) * (compared > 0)
        bound = 10 ** chance_log10(60 * leak.part**2, leak.traffic, share)
        assert weights @ above <= bound + 1e-12
    # Rounded up.
    assert leak.share == 1 or leak.to_dict(1e-3)["documents_needed"] in (60, 61)
    assert Traffic(served, 60).leak("c1", 3, 1e-3).share < 1


def test_without_counters_revoked_keys_are_taken_to_have_had_their_part() -> None:
    leak = Traffic().leak("c1", 8, 1e-7, ["c1", "c2", "c3", "c4"])
    assert (leak.share, leak.traffic, leak.part) == (0.5, 1 / 4, 0.5)


def test_with_counters_as_much_as_chance_gives() -> None:
    served = {"c1": 100, "c2": 700}
    small = Traffic(served, 100).leak("c1", 2, 1e-7)
    assert small.traffic == pytest.approx(1 / 8)
    assert chance_log10(100, 1 / 8, small.share) == pytest.approx(-7, abs=1e-6)
    large = Traffic(served, 10_000).leak("c1", 2, 1e-7)
    assert 1 / 8 < large.share < 0.16 < small.share
    assert Traffic(served, 100).leak("c2", 2, 1e-7).odds > 7
    # Three documents are one cohort's by chance too often for any share to be told from it.
    assert Traffic(served, 3).leak("c1", 2, 1e-7).odds == math.inf


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1, "b": 2, "c": 3}, "no key under test is called c; they are called a, b"),
        ({"a": 1}, "says nothing of b"),
        ({"a": 1, "b": 0}, "at least 1, for b"),
        ({"a": 1.5, "b": True}, "at least 1, for a, b"),
        ({"a": 1, "b": "2"}, "at least 1, for b"),
        ([1, 2], "JSON object"),
    ],
)
def test_counters_that_cannot_be_right(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "served.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        read_served(path, ["a", "b"])
    path.write_text('{"b": 3, "a": 12}')
    assert list(read_served(path, ["a", "b"]).items()) == [("a", 12), ("b", 3)]
