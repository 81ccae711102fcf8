"""The investigator's half of the command line, added to the provider's: `heirmark`.

Exit codes: 0 done (whatever was found), 1 error, 2 wrong usage.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from detect.results import ALPHA, format_p
from watermark.cli import chosen_config, config_options, heirmark, progress
from watermark.errors import ConfigError, ResultError
from watermark.files import atomic_writer, dump_json, read_json, read_text_file
from watermark.keys import load_key

__all__ = ["main"]

_PATH = click.Path(path_type=Path)
_ALPHA = click.FloatRange(0, 1, min_open=True, max_open=True)


def _test_options(n_decoys: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that every test has."""
    options: list[Any] = [
        click.option("--key", "key_path", type=_PATH, required=True, help="Key file."),
        config_options,
        click.option(
            "--tokenizer",
            default="smollm2",
            show_default=True,
            help="The provider's tokenizer: tokenizer.json, folder, Hub id or smollm2.",
        ),
        click.option("--alpha", default=ALPHA, show_default=True, type=_ALPHA,
                     help="Level of a positive verdict."),
        click.option("--decoys", "n_decoys", default=n_decoys, show_default=True,
                     type=click.IntRange(0, 1_000_000), help="Decoy keys; 0 for none."),
        click.option("--seed", default=0, show_default=True, help="Of the decoy keys."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        click.option("--output", "-o", type=_PATH, help="Write the JSON result to a file."),
    ]  # fmt: skip

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@heirmark.command()
@click.argument("text", metavar="FILE")
@_test_options(n_decoys=999)
@click.option("--prompt", "prompt_path", help="File with the prompt that the text answers.")
@click.option("--tokens", is_flag=True, help="List every token with its score, for the report.")
def detect(
    text: str,
    key_path: Path,
    preset_name: str | None,
    config_path: Path | None,
    tokenizer: str,
    alpha: float,
    n_decoys: int,
    seed: int,
    as_json: bool,
    output: Path | None,
    prompt_path: str | None,
    tokens: bool,
) -> None:
    """Test one text (FILE, or - for standard input) for a mark."""
    from detect.text import assess_text
    from watermark.tokens import load_tokenizer

    result = assess_text(
        read_text_file(text),
        tokenizer=load_tokenizer(tokenizer),
        config=chosen_config(preset_name, config_path),
        key=load_key(key_path),
        prompt=read_text_file(prompt_path) if prompt_path else None,
        alpha=alpha,
        n_decoys=n_decoys,
        seed=seed,
    )
    _show(result.to_dict(tokens=tokens), as_json, output)


@heirmark.command()
@click.argument("source")
@_test_options(n_decoys=999)
@click.option("--text-field", default="text", show_default=True)
@click.option(
    "--ids-field",
    default="token_ids",
    show_default=True,
    help="Field of logged token ids, read where there is no text.",
)
@click.option("--id-field", default="id", show_default=True)
def scan(
    source: str,
    key_path: Path,
    preset_name: str | None,
    config_path: Path | None,
    tokenizer: str,
    alpha: float,
    n_decoys: int,
    seed: int,
    as_json: bool,
    output: Path | None,
    text_field: str,
    ids_field: str,
    id_field: str,
) -> None:
    """Test a corpus: JSONL(.gz, .zst), Parquet, .txt, a folder, or datasets:NAME[:split]."""
    from detect.corpus import scan_corpus
    from detect.documents import Columns, read_documents
    from watermark.tokens import load_tokenizer

    with progress(None, "scanning", "tok") as bar:
        result = scan_corpus(
            read_documents(source, Columns(text_field, ids_field, id_field)),
            tokenizer=load_tokenizer(tokenizer),
            config=chosen_config(preset_name, config_path),
            key=load_key(key_path),
            alpha=alpha,
            n_decoys=n_decoys,
            seed=seed,
            on_document=bar.update,
        )
    _show(result.to_dict(), as_json, output)


@heirmark.command()
@click.argument("suspect")
@click.option("--access", type=click.Choice(["text", "weights"]), default="text", show_default=True)
@click.option("--control", "controls", multiple=True, help="A clean model; may be repeated.")
@click.option("--reference", help="With weights: a clean model, often the suspect's public base.")
@click.option("--prompts", "prompts_path", help="With text: prompts for the suspect, one a line.")
@click.option(
    "--reading",
    "reading_path",
    help='With weights: unmarked texts, JSONL with "prompt" and "text".',
)
@_test_options(n_decoys=999)
@click.option("--max-new-tokens", default=96, show_default=True, type=click.IntRange(1))
@click.option(
    "--temperature", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True)
)
@click.option("--top-k", default=0, show_default=True, type=click.IntRange(0), help="0 keeps all.")
def probe(suspect: str, **options: Any) -> None:
    """Test a model (SUSPECT: folder, Hub id or smollm2) for inherited signal."""
    from detect.probing import ProbeRequest, run_probe

    needed = "prompts_path" if options["access"] == "text" else "reading_path"
    if options[needed] is None:
        option = "--prompts" if needed == "prompts_path" else "--reading"
        raise click.UsageError(f"--access {options['access']} needs {option} FILE")
    request = ProbeRequest(
        suspect=suspect,
        access=options["access"],
        controls=options["controls"],
        reference=options["reference"],
        config=chosen_config(options["preset_name"], options["config_path"]),
        key=load_key(options["key_path"]),
        tokenizer=options["tokenizer"],
        alpha=options["alpha"],
        n_decoys=options["n_decoys"],
        seed=options["seed"],
        max_new_tokens=options["max_new_tokens"],
        temperature=options["temperature"],
        top_k=options["top_k"],
    )
    result = run_probe(request, options["prompts_path"], options["reading_path"], progress)
    _show(result.to_dict(), options["as_json"], options["output"])


@heirmark.command()
@click.argument("result", type=_PATH)
@click.option("--output", "-o", type=_PATH, help="HTML file.  [default: RESULT with .html]")
def report(result: Path, output: Path | None) -> None:
    """Write a self-contained HTML page from a JSON result (of detect, scan, probe or demo)."""
    from detect.reporting import render_report

    payload = read_json(result)
    if not isinstance(payload, dict):
        raise ResultError(f"{result} is not a heirmark result; expected a JSON object")
    page = render_report(payload)
    target = output or result.with_suffix(".html")
    if target.resolve() == result.resolve():
        raise ConfigError(f"the report would overwrite its result {result}; choose --output")
    with atomic_writer(target) as file:
        file.write(page)
    click.echo(f"wrote {target}")


@heirmark.command()
@click.option(
    "--output",
    "-o",
    type=_PATH,
    default=Path("demo-run"),
    show_default=True,
    help="Folder; an interrupted run in it is resumed.",
)
@click.option(
    "--model", default="smollm2", show_default=True, help="Teacher: folder, Hub id or smollm2."
)
@click.option("--quick", is_flag=True, help="A smaller run, for a look; its signal may be weak.")
@click.option("--json", "as_json", is_flag=True, help="Print demo.json at the end.")
def demo(output: Path, model: str, quick: bool, as_json: bool) -> None:
    """Mark a teacher, distil a student, and prove the inheritance, live (about 15 minutes)."""
    from detect.demo.folder import FULL, QUICK
    from detect.demo.run import run_demo

    try:
        payload = run_demo(
            output,
            model,
            size=QUICK if quick else FULL,
            say=lambda line: click.echo(line, err=as_json),
        )
    except KeyboardInterrupt:
        raise click.ClickException(
            f"stopped; what is done is kept in {output}. Run the same command to go on from there"
        ) from None
    if as_json:
        click.echo(dump_json(payload), nl=False)


def _show(payload: dict[str, Any], as_json: bool, output: Path | None) -> None:
    if output:
        with atomic_writer(output) as file:
            file.write(dump_json(payload))
    if as_json:
        click.echo(dump_json(payload), nl=False)
        return
    click.echo(_summary(payload))


def _summary(payload: dict[str, Any]) -> str:
    lines = [
        f"verdict   {payload['verdict'].replace('_', ' ')}  (alpha {payload['alpha']:g})",
        f"p-value   {format_p(payload['log10_p'])}  ({payload['method']})",
        f"scored    {payload['n_scored']} pairs of {payload['n_tokens']} tokens",
        f"key       {payload['key_id']}  {payload['scheme']}, context width "
        f"{payload['context_width']}",
    ]
    if payload["method"] == "saddlepoint":
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


def main() -> None:
    """Run the command line."""
    heirmark()
