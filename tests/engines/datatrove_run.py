"""A scan by datatrove's local executor, in its environment.

python -m tests.engines.datatrove_run CORPUS KEY TOKENIZER OUT TASKS WORKERS all|scan|break|leak

scan leaves the end out; break raises an error amid the scoring, leak does so without our guard.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import dill
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader

import detect.scanning.batches as batches
import detect.scanning.on_datatrove as on_datatrove
import detect.scanning.shards as shards
from detect.scanning.on_datatrove import FinishStep, ScanStep, StreamScan

# Also in the workers, which import this module.
shards._BATCH_DOCUMENTS = 8  # type: ignore[misc]


def _broken(pairs: Any, plan: Any) -> Any:
    key = plan.key_integers
    return key + pairs


def main() -> None:
    corpus, key, tokenizer, folder, tasks, workers, what = sys.argv[1:]
    out = Path(folder)
    order = StreamScan(
        str(out / "parts"), key, tokenizer=tokenizer, n_decoys=99, sample=300, part_pairs=300,
        skip_bad="SKIP_BAD" in os.environ,
    )  # fmt: skip
    if what in ("break", "leak"):
        batches._units = _broken
    if what == "leak":
        on_datatrove._plainly = lambda work, *given: work(*given)
    scan = LocalPipelineExecutor(
        [JsonlReader(corpus), ScanStep(order)],
        tasks=int(tasks),
        workers=int(workers),
        logging_dir=str(out / "logs"),
    )
    finish = LocalPipelineExecutor(
        [FinishStep(order, str(out / "r.json"))], logging_dir=str(out / "finish"), depends=scan
    )
    # As the executor for Slurm does.
    (out / "finish").mkdir(parents=True, exist_ok=True)
    (out / "finish" / "executor.pik").write_bytes(dill.dumps(finish))
    (finish if what == "all" else scan).run()


if __name__ == "__main__":
    main()
