"""One chat server for all tests of endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.chat_server import ChatServer


@pytest.fixture(scope="session")
def running_server(model_folder: Path) -> Iterator[ChatServer]:
    from tests.chat_server import ChatServer

    with ChatServer(model_folder) as server:
        yield server


@pytest.fixture
def server(running_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> ChatServer:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    running_server.reset()
    return running_server
