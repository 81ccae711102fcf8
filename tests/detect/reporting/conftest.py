"""The browser of the pages' tests: one for the session, or a visible skip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.detect.reporting.chromium import Chromium, installed_browser


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = installed_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome on this machine")
    browser = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
