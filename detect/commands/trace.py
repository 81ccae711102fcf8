"""`heirmark trace`: whose key? Of accounts for texts, of cohorts and epochs for a model."""

from __future__ import annotations

import click

from detect.commands.trace_model import model
from detect.commands.trace_text import text

__all__ = ["trace"]


@click.group()
def trace() -> None:
    """Name the account, cohort or epoch that a text or a model points to."""


trace.add_command(text)
trace.add_command(model)
