"""Writers that are killed lose nothing that they acknowledged; at length in benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.registry_kills", str(tmp_path), "--kills", "20"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    outcome = json.loads(done.stdout)
    assert outcome["chain_verifies"]
    assert outcome["lost"] == dict.fromkeys(outcome["acknowledged"], 0)
    # Otherwise nobody was killed in the middle of anything.
    assert outcome["acknowledged"]["committed"] > 5
    assert outcome["n_entries"] >= outcome["acknowledged"]["committed"]
