"""A scan in a process of its own, in shards and parts so small that it can be killed anywhere.

    python -m tests.detect.scanning.scan_command CORPUS TOKENIZER FOLDER RESULT TABLE CREW

CREW: 1 is this process, another number so many, "ray" two Ray tasks.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import detect.scanning.running as running
from detect.documents import Columns
from detect.finding import Plan
from detect.scanning.plans import ScanPlan
from detect.scanning.processes import Processes
from detect.scanning.running import OneProcess, ScanOrder, run_scan
from detect.scanning.shards import ShardReader
from watermark.config import preset
from watermark.errors import WatermarkError
from watermark.keys import SecretKey
from watermark.storage.files import atomic_writer, dump_json
from watermark.tokens import TextTokenizer, load_tokenizer

KEY = SecretKey(bytes(range(32)))


class Quiet:
    def begin(self, corpus: Any) -> None: ...

    def progress(self, done: Any) -> None: ...

    def adding(self, n_pairs: int) -> None: ...


def order_for(
    source: str, tokenizer: TextTokenizer, *, table: Path | None = None, **options: Any
) -> ScanOrder:
    config = preset("default")
    scan = ScanPlan(config, config.source.key_of(KEY), n_sampled=300)
    plan = Plan(config, KEY, 1e-6, 0.3, 99, 0, scan.scorer)
    return ScanOrder(
        source, Columns(), plan, scan, tokenizer, table=table, **{"shard_bytes": 4_000, **options}
    )


def _crew(name: str) -> Any:
    if name == "ray":
        from detect.scanning.on_ray import RayCrew

        return RayCrew(None, 2)
    return contextlib.nullcontext(OneProcess()) if name == "1" else Processes(int(name))


def main() -> int:
    source, tokenizer, folder, result, table, workers = sys.argv[1:]
    order = order_for(source, load_tokenizer(tokenizer), table=Path(table))

    def small(*fields: Any) -> ShardReader:
        return ShardReader(*fields, part_pairs=300)

    running.ShardReader = small  # type: ignore[assignment, misc]
    crew = _crew(workers)
    try:
        with crew as hands:
            found = run_scan(order, Path(folder), hands, Quiet())
            with atomic_writer(result) as file:
                file.write(dump_json(found.to_dict()))
    except WatermarkError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
