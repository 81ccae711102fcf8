"""`heirmark report`: a page for people from a JSON result."""

from __future__ import annotations

from pathlib import Path

import click

from detect.commands.options import PATH
from watermark.errors import ConfigError, ResultError
from watermark.storage.files import atomic_binary_writer, atomic_writer, read_json

__all__ = ["report"]


@click.command()
@click.argument("result", type=PATH)
@click.option(
    "--output", "-o", type=PATH, help="HTML or PDF file.  [default: RESULT with .html or .pdf]"
)
@click.option(
    "--pdf",
    "as_pdf",
    is_flag=True,
    help="Print it by Chromium or Chrome; -o FILE.pdf asks for it too.",
)
@click.option("--browser", type=PATH, help="With --pdf: the browser.  [default: found on PATH]")
def report(result: Path, output: Path | None, as_pdf: bool, browser: Path | None) -> None:
    """Write a result as one self-contained page, HTML or PDF.

    RESULT is the JSON of a test, a plan or the demo, - standard input.
    """
    from detect.reporting import render_report

    as_pdf = as_pdf or (output is not None and output.suffix.lower() == ".pdf")
    if browser and not as_pdf:
        raise click.UsageError("--browser goes with --pdf")
    target = output or result.with_suffix(".pdf" if as_pdf else ".html")
    if target.resolve() == result.resolve():
        raise ConfigError(f"the report would overwrite its result {result}; choose --output")
    payload = read_json(result)
    if not isinstance(payload, dict):
        raise ResultError(f"{result} is not a heirmark result; expected a JSON object")
    page = render_report(payload)
    if as_pdf:
        _write_pdf(page, target, browser)
    else:
        with atomic_writer(target) as file:
            file.write(page)
    click.echo(f"wrote {target}")


def _write_pdf(page: str, target: Path, browser: Path | None) -> None:
    from detect.reporting.pdf import find_browser, print_pdf

    printed = print_pdf(page, find_browser(browser))
    with atomic_binary_writer(target) as file:
        file.write(printed)
