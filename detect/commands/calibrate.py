"""`heirmark calibrate`: false positives on one's own text, under this key and fresh ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from detect.commands.options import (
    PATH,
    corpus_options,
    deployment_options,
    result_options,
    score_option,
    show,
)
from detect.results import format_p
from watermark.cli import SEED, chosen_config, progress
from watermark.keyring.secret_stores import read_key
from watermark.storage.files import atomic_writer

if TYPE_CHECKING:
    from detect.documents import Columns

__all__ = ["calibrate"]


@click.command()
@click.argument("corpus")
@deployment_options
@click.option(
    "--keys",
    "n_keys",
    default=100,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Fresh keys for each piece.",
)
@click.option(
    "--length", default=200, show_default=True, type=click.IntRange(20), help="Tokens of a piece."
)
@click.option("--seed", default=0, show_default=True, type=SEED, help="Of the fresh keys.")
@score_option
@click.option("--picture", type=PATH, help="HTML page with the plot of p-values against uniform.")
@corpus_options
@result_options
def calibrate(corpus: str, columns: Columns, **options: Any) -> None:
    """Measure false positives on clean text of your own.

    CORPUS is what scan reads.
    """
    from detect.calibrating.calibration import calibrate as run
    from detect.scanning.in_order import read_documents
    from watermark.tokens import load_tokenizer

    with progress(None, "testing", "piece") as bar:
        result = run(
            read_documents(corpus, columns),
            tokenizer=load_tokenizer(options["tokenizer"]),
            config=chosen_config(options["preset_name"], options["config_path"]),
            key=read_key(options["key_path"]),
            n_keys=options["n_keys"],
            length=options["length"],
            seed=options["seed"],
            score=options["score"],
            on_piece=bar.update,
        )
    if options["picture"]:
        from detect.reporting import render_report

        page = render_report(result.to_dict())
        with atomic_writer(options["picture"]) as file:
            file.write(page)
    show(result.to_dict(), options["as_json"], options["output"], _summary)


def _summary(payload: dict[str, Any]) -> str:
    kinds = ", ".join(f"{n} {name}" for name, n in payload["n_pieces"].items())
    own = payload["this_key"]
    lines = [
        f"text      {payload['n_tokens']} tokens in pieces: {kinds}; score {payload['score']}",
        f"keys      {payload['n_keys']} fresh ones for each piece",
    ]
    for name, trials in payload["fresh_keys"].items():
        lines += [f"fresh     {name} {_rate(rate)}" for rate in trials["rates"]]
    uniform = payload["fresh_keys"]["all"]["uniformity_p_value"]
    lines += [
        f"uniform   Kolmogorov-Smirnov p = {uniform:.2g}",
        f"this key  {payload['key_id']}: {own['n']} pieces over {own['n_pooled']} distinct pairs",
        *(f"this key  {_rate(rate)}" for rate in own["rates"]),
        f"pooled    p = {format_p(own['log10_p_pooled'])}",
        f"uniform   Kolmogorov-Smirnov p = {own['uniformity_p_value']:.2g}",
    ]
    lines += [f"warning   {warning}" for warning in payload["warnings"]]
    return "\n".join(lines)


def _rate(rate: dict[str, Any]) -> str:
    return (
        f"at {rate['alpha']:g}: {rate['hits']} of {rate['n']}, rate {rate['rate']:.3g} "
        f"[{rate['low']:.3g}, {rate['high']:.3g}]"
    )
