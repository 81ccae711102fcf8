"""Results as one self-contained HTML page: finding first, controls beside it, limits in words."""

from detect.reporting.page import render_report as render_report

__all__ = ["render_report"]
