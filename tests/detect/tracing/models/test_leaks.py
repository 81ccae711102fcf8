"""What a leak looks like: traffic, chance, and counters that cannot be right."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from scipy.stats import binom

from detect.tracing.models.leaks import Traffic, chance_log10, documents_needed, read_served
from watermark.errors import ConfigError


def test_chance_is_bounded_and_not_wildly() -> None:
    for documents, traffic, share in ((40, 0.125, 0.5), (100, 0.3, 0.45), (10, 0.5, 1.0)):
        exact = math.log10(binom.sf(math.ceil(documents * share) - 1, documents, traffic))
        bound = chance_log10(documents, traffic, share)
        assert exact <= bound + 1e-12
        assert bound < exact + 1.3
    assert chance_log10(10, 0.5, 1.0) == pytest.approx(10 * math.log10(0.5))
    assert chance_log10(1000, 0.5, 0.5) == 0


def test_so_many_documents_are_needed() -> None:
    # KL(1/2 || 1/8) = ln(1/2 / sqrt(1/8 * 7/8)) = 0.4134 nats; ln(10^6) / 0.4134 = 33.4.
    assert documents_needed(1 / 8, 0.5, 1e-6) == 34
    assert chance_log10(34, 1 / 8, 0.5) <= -6 < chance_log10(33, 1 / 8, 0.5)
    assert documents_needed(0.6, 0.5, 1e-6) is None


def test_without_counters_half_is_allowed() -> None:
    leak = Traffic().leak("c1", 8, 1e-7)
    assert (leak.share, leak.odds, leak.traffic) == (0.5, 1.0, 1 / 8)
    assert leak.log10_chance == -math.inf


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
