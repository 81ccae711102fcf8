"""What the detector's commands share: the options of every test, and how a result is shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import IO, Any, Final, final

import click

from detect.commands.terminal import plain_values
from detect.decoys import AUTOMATIC, DEFAULT_DECOYS, LEAST_DECOYS
from detect.interrupts import INTERRUPTED
from detect.results import ALPHA, RESULT_SCHEMA, format_p
from detect.scoring.scorers import SCORES
from watermark.cli import SEED, FiniteRange, config_options
from watermark.storage.files import atomic_writer, dump_json

__all__ = [
    "PATH",
    "Stopped",
    "add_options",
    "alpha_option",
    "assessment_options",
    "corpus_options",
    "deployment_options",
    "profile_summary",
    "result_options",
    "score_option",
    "show",
]

Command = Callable[..., None]


@final
class Stopped(click.ClickException):
    """Ctrl-C, where there is something to say about what was kept."""

    exit_code = INTERRUPTED

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message; it is no error."""
        click.echo(self.format_message(), file=file, err=file is None)


PATH: Final = click.Path(path_type=Path)

alpha_option = click.option(
    "--alpha",
    default=ALPHA,
    show_default=True,
    type=FiniteRange(1e-300, 0.5),
    help="Level of a positive verdict.",
)


def add_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Add options; help lists them in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def deployment_options(
    command: Command, *, key_required: bool = True, with_key: bool = True
) -> Command:
    """Add --key, --config or --preset, and --tokenizer."""
    key = click.option(
        "--key", "key_path", type=PATH, required=key_required, help="Key file, or env:VARIABLE."
    )
    return add_options(
        command,
        *((key,) if with_key else ()),
        config_options,
        click.option(
            "--tokenizer",
            default="smollm2",
            show_default=True,
            help="The provider's tokenizer: tokenizer.json, folder, Hub id or smollm2.",
        ),
    )


def result_options(command: Command) -> Command:
    """Add --json and --output."""
    return add_options(
        command,
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        click.option("--output", "-o", type=PATH, help="Write the JSON result to a file."),
    )


def assessment_options(
    command: Command, *, key_required: bool = True, with_key: bool = True
) -> Command:
    """Add the options of every test that ends in a verdict."""
    return add_options(
        command,
        partial(deployment_options, key_required=key_required, with_key=with_key),
        alpha_option,
        click.option(
            "--decoys",
            "n_decoys",
            type=click.IntRange(0, 100_000_000),
            callback=lambda ctx, option, number: AUTOMATIC if number is None else number,
            help=f"Decoy keys; 0 for none.  [default: {DEFAULT_DECOYS:,}, for long input fewer, "
            f"never below {LEAST_DECOYS}]",
        ),
        click.option("--seed", default=0, show_default=True, type=SEED, help="Of the decoy keys."),
        score_option,
        result_options,
    )


def corpus_options(command: Command) -> Command:
    """Add the names of a corpus's fields, as one argument `columns`."""

    @wraps(command)
    def with_columns(*, text_field: str, ids_field: str, id_field: str, **options: Any) -> None:
        from detect.documents import Columns

        command(columns=Columns(text_field, ids_field, id_field), **options)

    return add_options(
        with_columns,
        click.option(
            "--text-field", default="text", show_default=True, help="Field of a document's text."
        ),
        click.option(
            "--ids-field",
            default="token_ids",
            show_default=True,
            help="Field of logged token ids, read where there is no text.",
        ),
        click.option(
            "--id-field", default="id", show_default=True, help="Field of a document's name."
        ),
    )


score_option = click.option(
    "--score",
    type=click.Choice(list(SCORES)),
    help="What is added up.  [default: the best known for the test]",
)


def show(
    payload: dict[str, Any],
    as_json: bool,
    output: Path | None,
    summarise: Callable[[dict[str, Any]], str] | None = None,
) -> None:
    """Print a result, and write its JSON if a file was given.

    Args:
        payload: JSON values, to which the name of their schema is added.
        as_json: print them, not the summary.
        output: JSON file, written whole or not at all.
        summarise: makes the lines to print; None is that of a test's finding.
    """
    payload = {"schema": RESULT_SCHEMA, **payload}
    if output:
        with atomic_writer(output) as file:
            file.write(dump_json(payload))
    if as_json:
        click.echo(dump_json(payload), nl=False)
        return
    # JSON escapes them itself; in the lines a document's name would stand as it is.
    click.echo((summarise or _summary)(plain_values(payload)))


def profile_summary(payload: dict[str, Any]) -> str:
    """Write the lines of a search over profiles: the best finding, then every profile."""
    rows = sorted(payload["profiles"], key=lambda row: row["log10_p"])
    width = max(len(row["name"]) for row in rows)
    return "\n".join(
        [
            _summary(payload),
            f"profile   {payload['profile']}: the best of {len(rows)}, which the p-value above "
            "pays for",
            *(
                f"          {row['name']:{width}}  {format_p(row['log10_p']):>10}  "
                f"{row['verdict'].replace('_', ' ')}"
                for row in rows
            ),
        ]
    )


def _summary(payload: dict[str, Any]) -> str:
    lines = [
        f"verdict   {payload['verdict'].replace('_', ' ')}  (alpha {payload['alpha']:g})",
        f"p-value   {format_p(payload['log10_p'])}  ({payload['method']})",
        f"scored    {payload['n_scored']} pairs of {payload['n_tokens']} tokens",
        f"key       {payload['key_id']}  {payload['scheme']}, context width "
        f"{payload['context_width']}",
    ]
    if payload["log10_p_ceiling"] > payload["log10_p"]:
        lines.insert(2, f"at most   {format_p(payload['log10_p_ceiling'])}  (rigorous bound)")
    if decoys := payload["decoys"]:
        lines.append(
            f"decoys    {decoys['n_at_least']} of {decoys['n_decoys']} fresh keys reach it"
        )
    if payload["kind"] == "corpus":
        lines.append(
            f"documents {payload['n_significant']} of {payload['n_documents']} significant"
        )
    lines += [
        f"control   {c['name']} ({c['role']}): p = {format_p(c['log10_p'])}"
        for c in payload.get("controls", [])
    ]
    lines += [f"warning   {warning}" for warning in payload["warnings"]]
    return "\n".join(lines)
