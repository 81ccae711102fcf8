"""The suspects, under one door: what is asked of them, and those whose weights are at hand."""

from __future__ import annotations

from detect.suspect.exchanges import (
    Positions,
    ReadingText,
    ReportedPosition,
    Suspect,
    SuspectAnswer,
)
from detect.suspect.open_weights import TransformersSuspect

__all__ = [
    "Positions",
    "ReadingText",
    "ReportedPosition",
    "Suspect",
    "SuspectAnswer",
    "TransformersSuspect",
]
