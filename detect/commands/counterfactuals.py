"""`heirmark counterfactuals`: does a suspect know logged answers from what might have been said?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detect.commands.options import PATH, alpha_option, result_options, show
from detect.results import format_p
from watermark.cli import SEED, FiniteRange, chosen_config, config_options, progress
from watermark.errors import MissingExtraError
from watermark.keyring.secret_stores import read_key
from watermark.storage.files import atomic_writer, dump_json

if TYPE_CHECKING:
    from detect.suspect.likelihoods import Exchange, Scores

__all__ = ["counterfactuals"]

_SHOWN_ACCOUNTS = 20


@click.group()
def counterfactuals() -> None:
    """Test a suspect on the provider's own logs.

    Draw other answers to the logged prompts, then rank the logged ones among them.
    """


@counterfactuals.command()
@click.argument("logs", metavar="LOGS")
@click.option("--model", required=True, help="What gave the answers: folder, Hub id or smollm2.")
@click.option("--key", "key_path", type=PATH, required=True, help="Key file of the logs.")
@config_options
@click.option(
    "--kind",
    type=click.Choice(["same-key", "never-issued"]),
    default="same-key",
    show_default=True,
    help="Fresh coins under the logs' key, or copies of the logs under keys that nobody got.",
)
@click.option("-n", "n", default=19, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--max-new-tokens", required=True, type=click.IntRange(1), help="As for the logs.")
@click.option(
    "--temperature",
    default=1.0,
    show_default=True,
    type=FiniteRange(0, min_open=True),
    help="As for the logs.",
)
@click.option("--top-k", default=0, show_default=True, type=click.IntRange(0), help="0 keeps all.")
@click.option(
    "--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Prompts at once."
)
@click.option("--seed", type=SEED, help="Of the coins, never one of the logs.  [default: random]")
@click.option("--output", "-o", type=PATH, required=True, help="JSON file of candidates.")
def draw(
    logs: str,
    model: str,
    key_path: Path,
    preset_name: str | None,
    config_path: Path | None,
    kind: str,
    output: Path,
    **sampling: Any,
) -> None:
    """Draw counterfactuals of logged answers.

    LOGS is JSONL as of generate, perhaps with "account". It holds every answer to its prompts, in
    the order of time, with none left out for what it says.
    """
    from detect.suspect.logs import Kind, draw_counterfactuals, read_logs

    answers = read_logs(logs)
    total = len(answers) * sampling["n"] * sampling["max_new_tokens"]
    with progress(total, "drawing", "tok") as bar:
        candidates = draw_counterfactuals(
            model,
            answers,
            config=chosen_config(preset_name, config_path),
            key=read_key(key_path),
            kind=Kind(kind),
            on_tokens=bar.update,
            **sampling,
        )
    with atomic_writer(output) as file:
        file.write(dump_json(candidates.to_dict()))
    click.echo(f"wrote {output}: {len(answers)} logged answers, {sampling['n']} others for each")


@counterfactuals.command("list")
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--output", "-o", type=PATH, required=True, help="JSONL file.")
def list_texts(files: tuple[Path, ...], output: Path) -> None:
    """List all texts that a suspect must score.

    Their order does not tell which was logged. FILES are those of counterfactuals draw.
    """
    from detect.suspect.counterfactual_test import exchanges
    from detect.suspect.logs import read_candidates

    rows = exchanges([read_candidates(path) for path in files])
    with atomic_writer(output) as file:
        for prompt, text in rows:
            file.write(json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False) + "\n")
    click.echo(f"wrote {output}: {len(rows)} texts; add a number as score to each")


@counterfactuals.command("test")
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--suspect", help="The model under test: folder, Hub id or smollm2.")
@click.option("--reference", help="A clean model, often the suspect's public base: more power.")
@click.option("--control", "controls", multiple=True, help="A clean model; may be repeated.")
@click.option("--scores", "scores_path", help="In place of a suspect: scores of the listed texts.")
@alpha_option
@result_options
def rank_logs(
    files: tuple[Path, ...],
    suspect: str | None,
    reference: str | None,
    controls: tuple[str, ...],
    scores_path: str | None,
    alpha: float,
    as_json: bool,
    output: Path | None,
) -> None:
    """Rank logged answers among their counterfactuals.

    FILES are those of counterfactuals draw.
    """
    if (suspect is None) == (scores_path is None):
        raise click.UsageError("give --suspect MODEL or --scores FILE")
    if scores_path and reference:
        raise click.UsageError("--reference goes with --suspect; subtract it from the scores")
    from detect.suspect.counterfactual_test import Sources, assess_logs, exchanges
    from detect.suspect.logs import read_candidates
    from detect.suspect.score_files import read_scores
    from detect.suspect.used import is_same, refuse_own_reference

    refuse_own_reference(suspect or "", reference)
    candidates = [read_candidates(path) for path in files]
    wanted = exchanges(candidates)
    clean = _read_by(reference, wanted) if reference else None
    tested = read_scores(scores_path) if scores_path else _scores(suspect or "", wanted, clean)
    # By the whole name: of two controls in folders of one name neither may be lost.
    others = {
        name: _scores(name, wanted, None if reference and is_same(name, reference) else clean)
        for name in controls
    }
    result = assess_logs(candidates, Sources(tested, others), alpha)
    name = Path(suspect).name if suspect else "scores given"
    show({**result.to_dict(), "suspect": name}, as_json, output, _summary)


def _scores(name: str, wanted: Sequence[Exchange], clean: Scores | None) -> Scores:
    from detect.suspect.likelihoods import less

    mine = _read_by(name, wanted)
    return mine if clean is None else less(mine, clean)


def _read_by(name: str, wanted: Sequence[Exchange]) -> Scores:
    try:
        from detect.suspect.likelihoods import mean_log_probs
        from detect.suspect.open_weights import TransformersSuspect
        from watermark.models import resolve_model

        model = TransformersSuspect(resolve_model(name))
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "hf") from None
    with progress(None, f"reading with {model.name}", "tok") as bar:
        return mean_log_probs(model, wanted, bar.update)


def _summary(payload: dict[str, Any]) -> str:
    process, n = payload["e_process"], payload["n_answers"]
    lines = [
        f"verdict   {payload['verdict'].replace('_', ' ')}  (alpha {payload['alpha']:g})",
        f"p-value   {format_p(payload['log10_p'])}  ({payload['method']}, sum of ranks)",
        f"e-process {format_p(process['log10_p'])}  (valid whenever one stops)",
        f"scored    {payload['n_scored']} {payload['unit']} ({n} logged answers)",
        f"null      {payload['null_hypothesis']}",
    ]
    lines += [
        f"account   {a['account']}: p = {format_p(a['log10_p_adjusted'])} corrected, "
        f"{a['n_scored']} answers, {a['verdict'].replace('_', ' ')}"
        for a in payload["accounts"][:_SHOWN_ACCOUNTS]
    ]
    if (more := len(payload["accounts"]) - _SHOWN_ACCOUNTS) > 0:
        lines.append(f"          and {more} more accounts in the JSON result")
    lines += [f"control   {c['name']}: p = {format_p(c['log10_p'])}" for c in payload["controls"]]
    return "\n".join([*lines, *(f"warning   {warning}" for warning in payload["warnings"])])
