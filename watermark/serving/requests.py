"""What an adapter keeps of a request between two steps, and how it counts."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final, final

__all__ = ["MetContexts", "Tally"]

_LOGGER: Final = logging.getLogger(__name__)


@final
class MetContexts:
    """The contexts that a growing response has met.

    It follows a list that the engine owns. Where the list is not what it was at the last look and
    one token more (a request that came back, tokens that were taken back), everything is read
    anew: what was seen is a shortcut, never a state.

    Args:
        context_width: h.
        marks_repeats: True if a context is marked again when it comes back.
    """

    __slots__ = ("_h", "_marks_repeats", "_met", "_read")

    def __init__(self, context_width: int, marks_repeats: bool) -> None:
        self._h, self._marks_repeats = context_width, marks_repeats or context_width == 0
        self._met: set[tuple[int, ...]] = set()
        self._read: list[int] = []

    def is_new(self, response: list[int]) -> bool:
        """Tell whether the token after a response may be marked.

        Args:
            response: the response so far.

        Returns:
            True if its last h tokens are known, and have not stood before a token of it.
        """
        h, n = self._h, len(response)
        # Engines write -1 where a token is not known yet.
        if n < h or min(response[n - h :], default=0) < 0:
            return False
        if self._marks_repeats:
            return True
        # Comparing a list is a hundred times faster than reading its contexts.
        if n == h or n != len(self._read) + 1 or response[:-1] != self._read:
            self._met = {tuple(response[i - h : i]) for i in range(h, n)}
            self._read = response[:-1]
        self._read.append(response[-1])
        context = tuple(response[n - h :])
        if context in self._met:
            return False
        self._met.add(context)
        return True


@final
class Tally:
    """Counts what is not as usual, and says so in the log, ever more seldom."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, event: str, explanation: str, n: int = 1) -> None:
        """Count events.

        Args:
            event: what they are called.
            explanation: one sentence for the log.
            n: how many.
        """
        before = self.counts[event]
        self.counts[event] = before + n
        if before == 0 or len(str(before)) < len(str(before + n)):
            _LOGGER.warning("heirmark: %s (%d so far)", explanation, before + n)
