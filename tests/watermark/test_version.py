"""A tree of files that nobody has installed still runs, on workers of a cluster say."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from watermark.version import own_version


def test_a_tree_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    assert own_version().count(".") == 2
    monkeypatch.setattr("watermark.version.version", missing)
    assert own_version() == "source"
