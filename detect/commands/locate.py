"""`heirmark locate`: where in a long, mixed document the mark is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from detect.commands.options import (
    PATH,
    alpha_option,
    deployment_options,
    result_options,
    score_option,
    show,
)
from detect.results import format_p
from watermark.cli import chosen_config
from watermark.keyring.secret_stores import read_key
from watermark.storage.files import atomic_writer, read_text_file

__all__ = ["locate"]


@click.command()
@click.argument("text", metavar="FILE")
@deployment_options
@alpha_option
@score_option
@result_options
@click.option("--tokens", is_flag=True, help="List every token with its score, for the report.")
@click.option("--picture", type=PATH, help="Write an HTML page that shows it.")
def locate(
    text: str,
    key_path: Path,
    preset_name: str | None,
    config_path: Path | None,
    tokenizer: str,
    alpha: float,
    score: str | None,
    as_json: bool,
    output: Path | None,
    tokens: bool,
    picture: Path | None,
) -> None:
    """Find the marked segments of a long, mixed text.

    FILE is the text, - standard input.
    """
    from detect.segments.localisation import locate_text
    from watermark.tokens import load_tokenizer

    result = locate_text(
        read_text_file(text),
        tokenizer=load_tokenizer(tokenizer),
        config=chosen_config(preset_name, config_path),
        key=read_key(key_path),
        alpha=alpha,
        score=score,
    )
    if picture:
        from detect.reporting import render_report

        page = render_report(result.to_dict(tokens=True))
        with atomic_writer(picture) as file:
            file.write(page)
    show(result.to_dict(tokens=tokens), as_json, output, _summary)


def _summary(payload: dict[str, Any]) -> str:
    segments = payload["segments"]
    lines = [
        f"verdict   {payload['verdict'].replace('_', ' ')}  (alpha {payload['alpha']:g})",
        f"p-value   {format_p(payload['log10_p'])}  (of the whole document, corrected for "
        f"{payload['n_windows']:,} windows)",
        f"scored    {payload['n_scored']} pairs of {payload['n_tokens']} tokens",
        f"key       {payload['key_id']}  {payload['scheme']}, context width "
        f"{payload['context_width']}",
        f"segments  {len(segments)}",
    ]
    lines += [_line(number, segment) for number, segment in enumerate(segments, 1)]
    return "\n".join(lines)


def _line(number: int, segment: dict[str, Any]) -> str:
    window, estimate = segment["window"], segment["estimate"]
    return (
        f"  {number:<7} p = {format_p(segment['log10_p'])} for tokens {_span(window['tokens'])}; "
        f"probably {_span(estimate['tokens'])}, characters {_span(estimate['characters'])}"
    )


def _span(place: list[int]) -> str:
    return f"{place[0]:,} to {place[1]:,}"
