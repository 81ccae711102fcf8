"""`heirmark trace`: whose key? Of accounts for texts, of cohorts and epochs for a model."""

from __future__ import annotations

import click

from detect.commands.trace_model import model
from detect.commands.trace_text import text

__all__ = ["trace"]


@click.group()
def trace() -> None:
    """Name whose key a text or a model points to.

    Texts point to accounts, models to cohorts or epochs.
    """


trace.add_command(text)
trace.add_command(model)
