"""What an adapter keeps of a request between two steps, and how it counts."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final, final

import numpy as np

from watermark.config import WatermarkConfig

__all__ = ["MetContexts", "Tally"]

_LOGGER: Final = logging.getLogger(__name__)


@final
class MetContexts:
    """The contexts that a growing response has met, in the channel in which it stands.

    It follows a list that the engine owns. Where the list is not what it was at the last look and
    one token more (a request that came back, tokens that were taken back), everything is read
    anew: what was seen is a shortcut, never a state.

    Args:
        config: the deployment.
    """

    __slots__ = ("_h", "_in_reasoning", "_marks_repeats", "_met", "_read", "_reasoning", "_start")

    def __init__(self, config: WatermarkConfig) -> None:
        self._h, self._reasoning = config.context_width, config.reasoning
        self._marks_repeats = config.source.marks_repeats or self._h == 0
        self._begin_anew([])

    def is_new(self, response: list[int]) -> bool:
        """Tell whether the token after a response may be marked: `watermark.markable`.

        Args:
            response: the response so far.

        Returns:
            True if its last h tokens are known, belong to its channel, and have not stood before
            a token of it; never in reasoning that is left unmarked.
        """
        h, n = self._h, len(response)
        # Engines write -1 where a token is not known yet.
        if n < h or min(response[n - h :], default=0) < 0:
            return False
        if self._marks_repeats and self._reasoning is None:
            return True
        # Comparing a list is a hundred times faster than reading its contexts.
        if n != len(self._read) + 1 or response[:-1] != self._read:
            self._begin_anew(response[:-1])
        if n:
            self._read.append(response[-1])
            self._cross_border()
        if n - self._start < h or self._is_left:
            return False
        context = tuple(response[n - h :])
        if context in self._met and not self._marks_repeats:
            return False
        self._met.add(context)
        return True

    @property
    def _is_left(self) -> bool:
        return self._in_reasoning and self._reasoning is not None and not self._reasoning.is_marked

    def _begin_anew(self, read: list[int]) -> None:
        h, n = self._h, len(read)
        self._read, self._start, self._in_reasoning = read, 0, False
        if self._reasoning is not None:
            places = self._reasoning.place(np.array(read, np.int64))
            self._start = int(places.starts[-1])
            self._in_reasoning = bool(places.in_reasoning[-1])
        self._met = {tuple(read[i - h : i]) for i in range(self._start + h, n + 1)}

    def _cross_border(self) -> None:
        reasoning, n = self._reasoning, len(self._read)
        if reasoning is None:
            return
        tail = tuple(self._read[-reasoning.longest :])
        for border, begins in ((reasoning.begin_ids, True), (reasoning.end_ids, False)):
            if tail[-len(border) :] == border:
                self._start, self._in_reasoning, self._met = n, begins, set()


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
