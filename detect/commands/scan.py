"""`heirmark scan`: a corpus of any size, on this machine or a Ray cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import click
from tqdm import tqdm

from detect.commands.options import PATH, Stopped, assessment_options, corpus_options, show
from detect.commands.terminal import plain, plural
from watermark.cli import chosen_config, heirmark
from watermark.errors import ConfigError
from watermark.keyring.secret_stores import read_key

if TYPE_CHECKING:
    from detect.documents import Columns
    from detect.scanning.pieces import Corpus
    from detect.scanning.results import CorpusResult
    from detect.scanning.running import Crew, ScanOrder
    from detect.scanning.shards import Progress

__all__ = ["scan"]

# A smaller corpus is done before other processes have started.
_ALONE_BELOW: Final = 4 << 20


@heirmark.command()
@click.argument("source")
@assessment_options
@corpus_options
@click.option("--documents", "table", type=PATH, help="Parquet file with every document's result.")
@click.option(
    "--work",
    "work",
    type=PATH,
    help="Folder for what is done; an interrupted scan in it is resumed.  [default: beside "
    "--output, else a temporary one]",
)
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes.  [default: one a core]")
@click.option(
    "--skip-bad", is_flag=True, help="Count documents that cannot be read, and go on without them."
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    help="Pairs for decoy keys, and for tests of words that depend on each other.  [default: "
    "65,536; 1,048,576 for the latter]",
)
@click.option(
    "--ray",
    "address",
    is_flag=False,
    flag_value="local",
    help="Scan on the Ray cluster at ADDRESS (auto: the running one), or on one started here.",
)
def scan(
    source: str,
    key_path: Path,
    preset_name: str | None,
    config_path: Path | None,
    tokenizer: str,
    as_json: bool,
    output: Path | None,
    work: Path | None,
    workers: int | None,
    address: str | None,
    **options: Any,
) -> None:
    """Test a corpus of any size for a mark.

    SOURCE: a file or folder of JSONL(.gz, .zst), Parquet or .txt, on this machine or at a URL that
    fsspec knows (s3://, hf:// ...), or datasets:NAME[:split]. Killed at any moment, the same
    command goes on where it was.
    """
    from detect.scanning.running import run_scan
    from watermark.tokens import load_tokenizer

    config, key = chosen_config(preset_name, config_path), read_key(key_path)
    order = _order(source, config, key, load_tokenizer(tokenizer), **options)
    with _folder(work, output, order.table) as folder, _crew(workers, address, order) as crew:
        try:
            with _Bars() as bars:

                def write(result: CorpusResult) -> None:
                    bars.close()
                    _finish(result, as_json, output)

                run_scan(order, folder, crew, bars, write)
        except KeyboardInterrupt:
            if not (work or output):
                raise
            raise Stopped(
                f"stopped; what is done is kept in {folder}. Run the same command to go on from "
                "there"
            ) from None


def _order(
    source: str,
    config: Any,
    key: Any,
    tokenizer: Any,
    *,
    columns: Columns,
    skip_bad: bool,
    table: Path | None,
    **test: Any,
) -> ScanOrder:
    from detect.scanning.plans import make_plans
    from detect.scanning.running import ScanOrder
    from watermark.extras import import_extra

    if table is not None:
        # Before hours of work, not after them.
        import_extra("pyarrow")
    plan, scan = make_plans(config, key, **test)
    return ScanOrder(source, columns, plan, scan, tokenizer, skip_bad, table)


@contextmanager
def _folder(work: Path | None, output: Path | None, table: Path | None) -> Iterator[Path]:
    """Choose where the parts are kept until the result is written, whatever happens."""
    from detect.scanning.work import is_own

    is_device = output is not None and output.exists() and not output.is_file()
    if work is None and (output is None or is_device):
        with tempfile.TemporaryDirectory(prefix="heirmark-scan-") as temporary:
            yield Path(temporary)
        return
    folder = work or Path(f"{output}.scan")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; --work needs a folder")
    for path in (output, table):
        if path and is_own(path.name) and path.resolve().parent == folder.resolve():
            raise ConfigError(f"{path} would be cleared away with the parts; choose another name")
    yield folder


@contextmanager
def _crew(workers: int | None, address: str | None, order: ScanOrder) -> Iterator[Crew]:
    from detect.scanning.processes import Processes, n_cores
    from detect.scanning.running import OneProcess

    if address is not None:
        from detect.scanning.on_ray import RayCrew

        with RayCrew(None if address == "local" else address, workers) as cluster:
            yield cluster
        return
    n = workers or n_cores()
    if n == 1 or (workers is None and not _is_long(order)):
        yield OneProcess()
        return
    with Processes(n) as processes:
        yield processes


def _is_long(order: ScanOrder) -> bool:
    from detect.scanning.stores import is_url, list_files, stat_file

    if order.source.startswith("datasets:") or is_url(order.source):
        return True
    files = list_files(order.source) or [stat_file(order.source)]
    return sum(file.size for file in files) >= _ALONE_BELOW


def _finish(result: CorpusResult, as_json: bool, output: Path | None) -> None:
    payload = result.to_dict()
    show(payload, as_json, output)
    left_out = payload["left_out"]
    if left_out["n_documents"] and not as_json:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in left_out["reasons"].items())
        click.echo(f"left out  {left_out['n_documents']:,} documents: {reasons}")
    if (n_damaged := left_out["n_damaged_files"]) and not as_json:
        # The first of the examples is one.
        click.echo(
            f"damaged   {n_damaged:,} file{plural(n_damaged)} not read to the end: "
            f"{plain(left_out['examples'][0])}"
        )
    unread = payload["files_not_read"]
    if n := unread["n"]:
        names = plain(", ".join(unread["examples"])) + (
            ", ..." if n > len(unread["examples"]) else ""
        )
        click.echo(f"{n:,} file{plural(n)} not read (unknown ending): {names}", err=True)


@final
class _Bars:
    """A progress bar on standard error, on a terminal only: share, tokens/s and time left."""

    def __enter__(self) -> _Bars:
        self._bar: tqdm[Any] | None = None
        self._tokens = 0
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def begin(self, corpus: Corpus) -> None:
        """Show the bar."""
        self._bar = tqdm(
            total=corpus.size or None, desc="scanning", unit="B", unit_scale=True, disable=None
        )

    def progress(self, done: Progress) -> None:
        """Move it."""
        assert self._bar is not None
        self._tokens += done.n_tokens
        rate = self._tokens / max(self._bar.format_dict["elapsed"], 1e-3)
        self._bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
        self._bar.update(done.n_bytes)

    def adding(self, n_pairs: int) -> None:
        """Say that distinct pairs are counted."""
        assert self._bar is not None
        self._bar.set_description(f"adding up {n_pairs:,} pairs")
