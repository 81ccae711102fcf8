"""`heirmark trace text`: which account wrote a text, or the texts of a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import click
from tqdm import tqdm

from detect.commands.family_options import FamilyChoice, family_options
from detect.commands.options import PATH, alpha_option, corpus_options, result_options, show
from detect.commands.terminal import plural
from detect.decoys import AUTOMATIC
from detect.results import format_p
from detect.scoring.scorers import SCORES
from watermark.cli import SEED, chosen_config, config_options
from watermark.keyring.key_files import load_key
from watermark.storage.files import read_text_file

if TYPE_CHECKING:
    from detect.documents import Columns
    from detect.tracing.texts.plans import TracePlan
    from detect.tracing.texts.shares import Reference
    from detect.tracing.texts.trace import Reader
    from watermark.tokens import TextTokenizer

__all__ = ["text"]

# Documents that the summary lists.
_LISTED: Final = 20


@click.command()
@click.argument("source")
@family_options
@config_options
@click.option(
    "--tokenizer",
    default="smollm2",
    show_default=True,
    help="The provider's tokenizer: tokenizer.json, folder, Hub id or smollm2.",
)
@alpha_option
@click.option("--prompt", "prompt_path", help="File with the prompt that a single text answers.")
@click.option(
    "--reference",
    metavar="MARKED",
    help="The provider's own marked answers, not in the corpus: estimate each account's share.",
)
@click.option("--reference-key", type=PATH, help="Key file under which the reference was marked.")
@click.option(
    "--decoys",
    "n_decoys",
    type=click.IntRange(0, 1_000_000),
    callback=lambda ctx, option, number: AUTOMATIC if number is None else number,
    help="Families of as many fresh keys, searched as a control; 0 for none.  [default: 19 to "
    "999, as many as ten seconds allow]",
)
@click.option("--seed", default=0, show_default=True, type=SEED, help="Of the fresh keys.")
@click.option("--score", type=click.Choice(list(SCORES)), help="What is added up.")
@click.option(
    "--piece",
    "piece_tokens",
    type=click.IntRange(1),
    help="Cut documents into pieces of so many tokens, each searched as a document of its own.",
)
@click.option(
    "--skip-bad", is_flag=True, help="Count documents that cannot be read, and go on without them."
)
@result_options
@corpus_options
def text(
    source: str,
    family: FamilyChoice,
    columns: Columns,
    preset_name: str | None,
    config_path: Path | None,
    tokenizer: str,
    alpha: float,
    prompt_path: str | None,
    reference: str | None,
    reference_key: Path | None,
    n_decoys: int,
    seed: int,
    score: str | None,
    piece_tokens: int | None,
    skip_bad: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Name the accounts whose keys a text or a corpus points to.

    SOURCE is a text file, - standard input, or a corpus as in scan (JSONL, Parquet, a folder, a
    URL, datasets:NAME). All keys of the family are searched, and paid for.
    """
    from detect.tracing.texts.plans import TracePlan
    from detect.tracing.texts.reading import CorpusReader, SingleText, is_corpus
    from detect.tracing.texts.trace import trace_text
    from watermark.tokens import load_tokenizer

    if bool(reference) != bool(reference_key):
        raise click.UsageError("--reference and --reference-key go together")
    many = is_corpus(source)
    if many and prompt_path:
        raise click.UsageError("--prompt goes with a single text; a corpus has many prompts")
    config, provider = chosen_config(preset_name, config_path), load_tokenizer(tokenizer)
    prompt = read_text_file(prompt_path) if prompt_path else None
    keys = family.load(config.source)
    plan = TracePlan(config, keys, alpha, score, n_decoys, seed, piece_tokens)
    reader: Reader = (
        CorpusReader(source, columns, skips_bad=skip_bad) if many else SingleText(source)
    )
    measured = None
    if reference and reference_key:
        measured = _measured(reference, reference_key, columns, provider, plan)
    with _Bars(reader.size) as bars:
        result = trace_text(
            reader, plan=plan, tokenizer=provider, prompt=prompt, reference=measured, progress=bars
        )
    payload = {**result.to_dict(), "family": family.kind, "prompt": prompt is not None}
    show(payload, as_json, output, _summary)


def _measured(
    reference: str, key: Path, columns: Columns, tokenizer: TextTokenizer, plan: TracePlan
) -> Reference:
    from detect.scanning.in_order import read_documents
    from detect.tracing.texts.shares import measure_reference

    return measure_reference(read_documents(reference, columns), load_key(key), tokenizer, plan)


def _summary(payload: dict[str, Any]) -> str:
    best = payload["ranking"][0] if payload["ranking"] else None
    bound = "a bound, " if payload["method"] == "bound" else ""
    lines = [
        f"verdict   {payload['verdict'].replace('_', ' ')}  (alpha {payload['alpha']:g} for all "
        f"{payload['n_keys']:,} keys together)",
        f"p-value   {format_p(payload['log10_p'])}  ({bound}of the best account, the search paid "
        "for)",
        f"named     {', '.join(payload['named']) or 'nobody'}",
        *_revoked(payload),
        f"scored    {payload['n_scored']:,} pairs of {payload['n_tokens']:,} tokens, "
        f"{payload['n_documents']:,} document{plural(payload['n_documents'])}, "
        f"{payload['n_documents_named']:,} of which name somebody",
    ]
    if best:
        lines += ["", *_table(payload["ranking"]), ""]
    if payload["n_documents"] > 1:
        lines += [*_documents(payload["documents"]), ""]
    if shares := payload["shares"]:
        lines += [f"share     {_share(row)}  {row['account']}" for row in shares["accounts"]]
        lines.append(f"share     {_share(shares['rest'])}  unmarked, or of others")
    if decoys := payload["decoys"]:
        lines.append(
            f"control   rank {decoys['rank']} of {decoys['n_decoys'] + 1}: the best of "
            f"{decoys['n_keys']:,} fresh keys reaches it in {decoys['n_at_least']} of "
            f"{decoys['n_decoys']} searches"
        )
    left_out = payload["left_out"]
    if left_out["n_documents"]:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in left_out["reasons"].items())
        lines.append(f"left out  {left_out['n_documents']:,} documents: {reasons}")
    if left_out["n_damaged_files"]:
        # The first of the examples is one.
        lines.append(f"damaged   {left_out['examples'][0]}")
    lines += [f"warning   {warning}" for warning in payload["warnings"]]
    return "\n".join(lines)


def _revoked(payload: dict[str, Any]) -> list[str]:
    """Say whose mark is there although others may have written it."""
    if not payload["named_revoked"]:
        return []
    names = ", ".join(payload["named_revoked"])
    return [f"revoked   {names}: the key's mark is there, and others may know the key"]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    shown = [row for row in rows if row["named"] or row["named_revoked"]] or rows[:3]
    width = max(len(row["account"]) for row in shown)
    return [
        f"          {row['account']:{width}}  {format_p(row['log10_p_adjusted']):>10} in all"
        f"  {row['n_documents']:>6,} document{plural(row['n_documents'])}  {row['key_id']}"
        + ("  (key revoked)" if row["revoked"] else "")
        for row in shown
    ]


def _documents(rows: list[dict[str, Any]]) -> list[str]:
    shown = sorted(rows, key=lambda row: float(row["log10_p"]))[:_LISTED]
    width = max(len(row["id"]) for row in shown)
    return [
        f"          {row['id']:{width}}  {format_p(row['log10_p_adjusted']):>10}  "
        f"{', '.join(row['named']) or 'nobody'}"
        + (f"  (revoked: {', '.join(row['named_revoked'])})" if row["named_revoked"] else "")
        for row in shown
    ]


def _share(row: dict[str, Any]) -> str:
    """Write an interval; only here is it cut to [0, 1]."""
    estimate, low, high = (
        f"{min(max(row[k], 0.0), 1.0):6.1%}" for k in ("estimate", "low", "high")
    )
    return f"{estimate} ({row['level']:.0%} interval {low.strip()} to {high.strip()})"


@final
class _Bars:
    """A progress bar on standard error, on a terminal only."""

    def __init__(self, n_bytes: int) -> None:
        self._bar: tqdm[Any] = tqdm(
            total=n_bytes or None, desc="searching", unit="B", unit_scale=True, disable=None
        )
        self._n_pairs = self._n_families = 0

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def read(self, n_bytes: int, n_documents: int, n_pairs: int) -> None:
        """Move it."""
        self._n_pairs += n_pairs
        if n_bytes:
            self._bar.set_postfix_str(f"{self._n_pairs:,} pairs", refresh=False)
            self._bar.update(n_bytes)

    def controlling(self, n_families: int) -> None:
        """Say how many families of fresh keys were searched."""
        self._n_families += n_families
        self._bar.set_description(f"control: {self._n_families} families of fresh keys")
