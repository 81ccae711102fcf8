"""At most so many requests a minute, from however many threads."""

from __future__ import annotations

import threading
import time
from typing import final

__all__ = ["Pacer"]


@final
class Pacer:
    """Spaces requests evenly, so that no minute, wherever it begins, has more than its share.

    Args:
        per_minute: requests a minute; None does not wait.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0  # seconds of time.monotonic
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Wait for the next free moment.

        Args:
            stop: ends the wait early when set.
        """
        if not self._gap:
            return
        with self._lock:
            moment = max(self._next, time.monotonic())
            self._next = moment + self._gap
        stop.wait(moment - time.monotonic())
