"""`heirmark trace model`: which cohort or epoch a suspect model learned from, or a leak of all."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detect.commands.options import PATH, assessment_options, show
from detect.commands.suspect_options import (
    asking_options,
    heard_options,
    request_of,
    sampling_options,
)
from detect.results import format_p
from watermark.cli import chosen_config, progress

if TYPE_CHECKING:
    from detect.tracing.models.registered import Counted, Registered
    from detect.tracing.named_keys import NamedKey
    from watermark.config import WatermarkConfig

__all__ = ["model"]


@click.command("model")
@click.argument("suspect")
@click.option("--keys", "folder", type=PATH, help="Folder of *.key.json; files give the names.")
@click.option("--master", type=PATH, help="Key file (or env:VARIABLE) that the keys derive from.")
@click.option(
    "--labels",
    "labels_path",
    type=PATH,
    help="With --master: which keys, JSONL of labels (heirmark registry export).",
)
@click.option(
    "--registry",
    metavar="PLACE",
    help="With --master: a registry (SQLite file or URL) that says which keys there are, what was "
    "revoked, and how much was served under each.",
)
@click.option(
    "--traffic",
    type=click.Choice(["exchanges", "tokens", "none"]),
    help="With --registry: which of its counters are the traffic.  [default: exchanges]",
)
@click.option(
    "--label-model",
    default="",
    help="With --master: the label model of all keys; of a registry that model's alone.",
)
@click.option(
    "--epoch",
    "epochs",
    multiple=True,
    help="With --master: an epoch; may be repeated. Of a registry only these; all by default.",
)
@click.option(
    "--cohort",
    "cohorts",
    multiple=True,
    help="With --master: a cohort, in each epoch. Of a registry only these; all by default.",
)
@click.option("--served", type=PATH, help="Exchanges served under each key, JSON: name -> number.")
@click.option(
    "--leaked-documents",
    default=100,
    show_default=True,
    type=click.IntRange(1, 10**9),
    help="With counters: independent documents that a leak is presumed to hold at least, by their "
    "effective number: 1 / sum w^2 of documents that leave parts w of the trace.",
)
@heard_options
@partial(assessment_options, with_key=False)
@sampling_options
@asking_options
def model(suspect: str, **options: Any) -> None:
    """Name the cohort or epoch that a model learned from.

    Or find that it learned from text that leaked from all of them. SUSPECT, like each --control, is
    a model's folder, a *.gguf file, a Hub id or smollm2; the address of an OpenAI-compatible API,
    http(s)://HOST/v1; or *.jsonl, recorded answers. It is asked or read once, and tested under each
    of 2 to 16 keys.
    """
    from detect.suspect.opening import is_replay
    from detect.tracing.models.leaks import Traffic, read_served
    from detect.tracing.models.many_keys import refuse_many
    from detect.tracing.models.trace import run_trace
    from detect.tracing.named_keys import checked

    _check(options, is_replay(suspect))
    config = chosen_config(options["preset_name"], options["config_path"])
    keys, served = _keys(options, config)
    names = [named.name for named in keys]
    refuse_many(len(names), config, options["access"], options["alpha"])
    checked(keys)
    if options["served"] is not None:
        served = read_served(options["served"], names)
    request = request_of(suspect, options, config, keys[0].key)
    result = run_trace(
        request,
        keys,
        Traffic(served, options["leaked_documents"]),
        options["prompts_path"],
        options["reading_path"],
        progress,
        announce=lambda line: click.echo(line, err=True),
    )
    payload = {
        **result.to_dict(),
        "family": "folder" if options["folder"] else "accounts",
        "leaked_documents": None if served is None else options["leaked_documents"],
    }
    show(payload, options["as_json"], options["output"], _summary)


def _keys(
    options: dict[str, Any], config: WatermarkConfig
) -> tuple[list[NamedKey], dict[str, int] | None]:
    """Read or derive the keys; of a registry's also what was served under each."""
    from detect.tracing.named_keys import derived_keys, keys_of_folder, read_labels
    from watermark.keyring.labels import KeyLabels
    from watermark.keyring.secret_stores import read_secret

    folder: Path | None = options["folder"]
    if folder is not None:
        return keys_of_folder(folder), None
    master = read_secret(options["master"])
    if options["registry"] is not None:
        found = _registered(options, master.key_id, config)
        return derived_keys(master, found.listed), found.served
    if options["labels_path"] is not None:
        listed = read_labels(options["labels_path"], KeyLabels())
        return derived_keys(master, listed), None
    pairs = product(options["epochs"] or ("",), options["cohorts"] or ("",))
    labels = [KeyLabels(options["label_model"], epoch, cohort) for epoch, cohort in pairs]
    return derived_keys(master, labels), None


def _registered(options: dict[str, Any], master_key_id: str, config: WatermarkConfig) -> Registered:
    from detect.tracing.models.registered import Wanted, registered_keys
    from watermark.commands.registry import open_registry

    model = options["label_model"] or None
    wanted = Wanted(master_key_id, model, options["epochs"], options["cohorts"])
    counted: Counted = options["traffic"] or "exchanges"
    with open_registry(options["registry"]) as opened:
        found = registered_keys(opened, wanted, config, counted)
    if found.n_unseen:
        click.echo(
            f"The registry counts {found.n_unseen:,} {counted} of this model under keys that are "
            "not under test: what leaked of them is not seen.",
            err=True,
        )
    return found


def _check(options: dict[str, Any], replayed: bool) -> None:
    """Refuse options that do not go together."""
    access, master = options["access"], options["master"]
    if (options["folder"] is None) == (master is None):
        raise click.UsageError("give the keys as --keys FOLDER or as --master FILE, one of them")
    named = bool(options["epochs"] or options["cohorts"])
    _check_labels(options, named=named)
    if options["labels_path"] and options["label_model"]:
        raise click.UsageError("--label-model goes with --epoch and --cohort, not with --labels")
    if access != "weights" and options["prompts_path"] is None and not replayed:
        raise click.UsageError(f"--access {access} needs --prompts FILE")
    if access == "weights" and options["reading_path"] is None:
        raise click.UsageError("--access weights needs --reading FILE")
    for name in ("score", "own_texts"):
        if options[name] and access != "text":
            raise click.UsageError(f"--{name.replace('_', '-')} is for --access text")
    if options["reference"] and options["score"]:
        raise click.UsageError("--score and --reference are scores both: give one of them")


def _check_labels(options: dict[str, Any], *, named: bool) -> None:
    registry, labels = options["registry"], options["labels_path"] is not None
    if options["master"] is None:
        if named or registry or labels or options["label_model"]:
            raise click.UsageError(
                "--labels, --registry, --label-model, --epoch and --cohort need --master FILE"
            )
    elif registry:
        if labels or options["served"] is not None:
            raise click.UsageError("--registry has labels and counters: no --labels, no --served")
    elif named == labels:
        raise click.UsageError(
            "--master needs --labels FILE, or --epoch and --cohort, or --registry PLACE"
        )
    if options["traffic"] and not registry:
        raise click.UsageError("--traffic goes with --registry")


def _summary(payload: dict[str, Any]) -> str:
    """Write the lines that a person reads: the conclusion, then every key."""
    width = max(len(row["name"]) for row in payload["cohorts"])
    spread = payload["spread"]
    levels = f"alpha {payload['alpha']:g}, keys and pooled {payload['level_of_each']:g} each"
    lines = [
        f"conclusion {payload['conclusion'].replace('_', ' ')}  ({levels})",
        f"           {payload['conclusion_in_words']}",
        f"scored     {payload['n_scored']} pairs of {payload['n_tokens']} tokens",
    ]
    if payload["named_revoked"]:
        names = ", ".join(payload["named_revoked"])
        lines.append(f"revoked    {names}: the key's mark is there, and others may know the key")
    for row in sorted(payload["cohorts"], key=lambda row: row["log10_p_adjusted"]):
        lines.append(
            f"key        {row['name']:{width}}  p = {format_p(row['log10_p']):>10}  adjusted "
            f"{format_p(row['log10_p_adjusted']):>10}  {row['verdict'].replace('_', ' ')}"
            + ("  (key revoked)" if row["revoked"] else "")
        )
    for name in ("pooled", "others"):
        words = "all keys together" if name == "pooled" else f"all but {payload['best']}"
        lines.append(f"spread     {words}: p = {format_p(spread[name]['log10_p_adjusted'])}")
    if alone := spread["concentration"]:
        share, documents = alone["share_at_least"], alone["presumed_documents"]
        least = "" if share is None else f" (at least {share:.0%}, 95 of 100 times)"
        of = "" if documents is None else f", a leak presumed to hold {documents:,} documents"
        lines.append(
            f"spread     {payload['best']} has more than {alone['share_allowed']:.0%} of the "
            f"signal{of}: p = {format_p(alone['log10_p_adjusted'])}{least}"
        )
    lines += [f"control    {c['name']}: p = {format_p(c['log10_p'])} under all keys together"
              for c in payload["controls"]]  # fmt: skip
    lines += [f"warning    {warning}" for warning in payload["warnings"]]
    return "\n".join(lines)
