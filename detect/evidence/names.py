"""Names of a bundle's files."""

from __future__ import annotations

from typing import Final

__all__ = ["REPORT_NAME", "RESULT_NAME"]

RESULT_NAME: Final = "result.json"
REPORT_NAME: Final = "report.html"
