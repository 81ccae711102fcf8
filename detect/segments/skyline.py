"""Evidence along a document, for a picture: the strongest window over every place."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.segments.windows import WindowTable

__all__ = ["Skyline", "skyline"]

_COLUMNS: Final = 480


class Skyline(NamedTuple):
    """Evidence along a document.

    Attributes:
        ends: int64, shape (c,), ascending: a column holds the tokens up to its end.
        log10_p: float64, shape (c,), smallest corrected p-value of the windows over the column.
    """

    ends: NDArray[np.int64]
    log10_p: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"end": self.ends.tolist(), "log10_p": np.round(self.log10_p, 4).tolist()}


def skyline(table: WindowTable, n_tokens: int) -> Skyline:
    """Look over every place of a document for the strongest window.

    Args:
        table: all windows that were searched.
        n_tokens: length of the document.

    Returns:
        The skyline, of at most 480 columns; a picture of the windows' p-values, no test of its own.
    """
    n_columns = min(n_tokens, _COLUMNS)
    if not n_columns:
        return Skyline(np.empty(0, np.int64), np.empty(0))
    first = table.start * n_columns // n_tokens
    beyond = -(-table.end * n_columns // n_tokens)
    log10_p = np.zeros(n_columns)
    strong = np.flatnonzero(table.log10_corrected < 0)
    # The strongest last, so that it stays.
    for i in strong[np.argsort(-table.log10_corrected[strong], kind="stable")].tolist():
        log10_p[first[i] : beyond[i]] = table.log10_corrected[i]
    ends = np.arange(1, n_columns + 1) * n_tokens // n_columns
    return Skyline(ends, log10_p)
