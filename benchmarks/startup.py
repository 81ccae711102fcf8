"""How long does `heirmark detect --json` take on one text, as a whole process?"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import click

from benchmarks.record import write_result
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

_TEXT = "The harbour was quiet when the first boat came in, and nobody asked the boy why. " * 12

# Runs the command in this process and then looks whether torch came along.
_LOOK = """
import sys
from detect.cli import heirmark
heirmark(sys.argv[1:], standalone_mode=False)
print("torch" in sys.modules, file=sys.stderr)
"""


@click.command()
@click.option("--runs", default=9, show_default=True)
def main(runs: int) -> None:
    """Time whole processes; the first run, which fills caches, is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        key, text = Path(folder, "k.json"), Path(folder, "t.txt")
        save_key(SecretKey.generate(), key)
        text.write_text(_TEXT, encoding="utf-8")
        command = [sys.executable, "-m", "detect", "detect", str(text), "--key", str(key), "--json"]
        seconds = []
        for _ in range(runs + 1):
            started = time.perf_counter()
            shown = subprocess.run(command, check=True, capture_output=True).stdout
            seconds.append(time.perf_counter() - started)
        done = subprocess.run(
            [sys.executable, "-c", _LOOK, *command[3:]], capture_output=True, text=True, check=True
        )
    measured = {
        "runs": runs,
        "median_seconds": median(seconds[1:]),
        "fastest_seconds": min(seconds[1:]),
        "slowest_seconds": max(seconds[1:]),
        "n_decoys": json.loads(shown)["decoys"]["n_decoys"],
        "torch_imported": done.stderr.strip().endswith("True"),
    }
    click.echo(measured)
    click.echo(f"wrote {write_result('startup', seed=0, measured=measured)}")


if __name__ == "__main__":
    main()
