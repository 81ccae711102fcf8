"""`heirmark fraction`: how much of a corpus is marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from detect.commands.options import assessment_options, corpus_options, show
from detect.results import format_p
from watermark.cli import chosen_config, progress
from watermark.keyring.secret_stores import read_key

if TYPE_CHECKING:
    from detect.documents import Columns

__all__ = ["fraction"]


@click.command()
@click.argument("corpus")
@click.option(
    "--reference",
    required=True,
    metavar="MARKED",
    help="The provider's own marked answers under the key, not in the corpus; read like CORPUS.",
)
@click.option(
    "--level",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Confidence level of the interval.",
)
@assessment_options
@corpus_options
def fraction(corpus: str, reference: str, columns: Columns, **options: Any) -> None:
    """Estimate the marked share of a corpus, with an interval.

    CORPUS is what scan reads.
    """
    from detect.fraction.estimate import assess_fraction
    from detect.scanning.in_order import read_documents
    from watermark.tokens import load_tokenizer

    with progress(None, "scoring", "tok") as bar:
        result = assess_fraction(
            read_documents(corpus, columns),
            read_documents(reference, columns),
            tokenizer=load_tokenizer(options["tokenizer"]),
            config=chosen_config(options["preset_name"], options["config_path"]),
            key=read_key(options["key_path"]),
            level=options["level"],
            alpha=options["alpha"],
            n_decoys=options["n_decoys"],
            seed=options["seed"],
            score=options["score"],
            on_document=bar.update,
        )
    show(result.to_dict(), options["as_json"], options["output"], _summary)


def _summary(payload: dict[str, Any]) -> str:
    share, strength = payload["fraction"], payload["reference"]
    lines = [
        f"marked    {_interval(share)}",
        f"reference {strength['strength']:.3g} +- {strength['strength_standard_error']:.2g} a "
        f"token above chance, {strength['n_documents']} documents",
        f"verdict   {payload['verdict'].replace('_', ' ')}  (alpha {payload['alpha']:g}; by the "
        "pooled p-value, not by the interval)",
        f"p-value   {format_p(payload['log10_p'])}  ({payload['method']}, pooled)",
    ]
    if sparse := payload["higher_criticism"]:
        lines.append(
            f"sparse    {format_p(sparse['log10_p'])}  (higher criticism: {sparse['n_below']} "
            f"documents with p <= {sparse['threshold']:.2g}, {sparse['n_below_expected']:.2g} "
            "expected)"
        )
    lines.append(
        f"scored    {payload['n_scored']} contexts of {payload['n_tokens']} tokens, "
        f"{payload['n_documents_scored']} of {payload['n_documents']} documents"
    )
    lines += [f"warning   {warning}" for warning in payload["warnings"]]
    return "\n".join(lines)


def _interval(share: dict[str, float] | None) -> str:
    """Write the interval as shares; only here is it cut to [0, 1]."""
    if share is None:
        return "unknown: nothing was scored"
    estimate, low, high = (
        f"{min(max(share[name], 0.0), 1.0):.1%}" for name in ("estimate", "low", "high")
    )
    return f"{estimate} of the scored tokens ({share['level']:.0%} interval {low} to {high})"
