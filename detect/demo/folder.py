"""The demo's folder: what a run keeps, so that a stopped one goes on where it was."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, final

from detect.decoys import LEAST_DECOYS
from detect.finding import Plan
from detect.results import ALPHA, format_p
from detect.scoring.score_tables import Scorer
from watermark.config import WatermarkConfig, load_config, preset
from watermark.errors import ConfigError
from watermark.keyring.key_files import load_secret, save_key
from watermark.keys import SecretKey
from watermark.models import resolve_model
from watermark.storage.files import atomic_writer, dump_json, read_json
from watermark.tokens import TextTokenizer, load_tokenizer

__all__ = [
    "FULL",
    "N_DECOYS",
    "QUICK",
    "TEMPERATURE",
    "TOP_K",
    "Run",
    "Size",
    "read_rows",
    "start",
    "write",
]

TEMPERATURE: Final = 1.0
TOP_K: Final = 50
N_DECOYS: Final = LEAST_DECOYS
_KEY: Final = "demo.key.json"
_CONFIG: Final = "config.json"


@final
@dataclass(frozen=True)
class Size:
    """How large a run is.

    Attributes:
        n_training: prompts that the teacher answers for the student.
        n_probe: held-out prompts that suspects answer.
        n_reading: unmarked answers among them that models read, with access to weights.
        max_new_tokens: longest answer.
        learning_rate: of the fine-tuning.
        trained_layers: last layers that learn; None is all.
        n_marked: marked answers hidden in the mixed corpus.
    """

    n_training: int = 400
    n_probe: int = 250
    n_reading: int = 120
    max_new_tokens: int = 96
    learning_rate: float = 5e-4
    trained_layers: int | None = 10
    n_marked: int = 20


FULL: Final = Size()
QUICK: Final = Size(n_training=64, n_probe=24, n_reading=24, max_new_tokens=48)


@final
@dataclass
class Run:
    """One run: its folder, what it found, and what it spent."""

    folder: Path
    model: Path
    size: Size
    config: WatermarkConfig
    key: SecretKey
    tokenizer: TextTokenizer
    say: Callable[[str], object]
    steps: list[dict[str, Any]] = field(default_factory=list)
    work: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    kept_seconds: float = 0.0

    def plan(self, effect: float, scorer: Scorer | None = None) -> Plan:
        """Fix a test of this run's key for an effect worth finding."""
        return Plan(self.config, self.key, ALPHA, effect, N_DECOYS, 0, scorer)

    def stage(self, name: str, file: str, make: Callable[[Path], object]) -> Path:
        """Make a file or folder unless an earlier run did; note the seconds."""
        path = self.folder / file
        clock = self.folder / f"{file.partition('.')[0]}.seconds"
        if path.exists() and clock.exists():
            self.say(f"{name}: kept from an earlier run")
            self.kept_seconds += float(clock.read_text(encoding="utf-8"))
        else:
            self.say(f"{name} ...")
            # Stopped after the last byte, before its seconds were noted: made again.
            _discard(path)
            started = time.monotonic()
            make(path)
            write(clock, f"{time.monotonic() - started:.1f}\n")
        self.work.append({"name": name, "seconds": float(clock.read_text(encoding="utf-8"))})
        return path

    def found(self, name: str, seconds: float, payload: dict[str, Any]) -> None:
        """Note a result and print its line."""
        self.steps.append({"name": name, "seconds": round(seconds, 1), **payload})
        self.say(
            f"  {name}: {payload['verdict'].replace('_', ' ')}, p = {format_p(payload['log10_p'])} "
            f"from {payload['n_scored']} pairs"
        )

    def seconds(self, stem: str) -> float:
        """Tell how long the stage that made a file took."""
        return float((self.folder / f"{stem}.seconds").read_text(encoding="utf-8"))


def start(folder: Path, model: str, size: Size, say: Callable[[str], object]) -> Run:
    """Open a run's folder, or make one with a fresh key.

    Args:
        folder: empty, missing, or that of an earlier run.
        model: the teacher: "smollm2", a folder or a Hub id.
        size: how large.
        say: prints a line.

    Returns:
        The run.

    Raises:
        ConfigError: the folder holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; --output names a folder")
    say("loading the model (the first time it is converted, about 20 seconds)")
    source = resolve_model(model)
    tokenizer = load_tokenizer(source)
    folder.mkdir(parents=True, exist_ok=True)
    marker = {"format": "heirmark-demo-1", "model": source.name, "size": asdict(size)}
    path = folder / "run.json"
    if path.exists() and read_json(path) != marker:
        raise ConfigError(
            f"{folder} holds a run with another model or size; choose another --output, "
            "or delete it"
        )
    if not path.exists():
        # A run stopped at its very start left these two; no answer was given under that key.
        if {p.name for p in folder.iterdir()} - {_KEY, _CONFIG}:
            raise ConfigError(
                f"{folder} is not empty and holds no demo run; choose another --output"
            )
        if not (folder / _KEY).exists():
            save_key(SecretKey.generate(), folder / _KEY)
        write(
            folder / _CONFIG,
            dump_json(preset("default").bound_to(tokenizer.fingerprint).to_dict()),
        )
        write(path, dump_json(marker))
    config, key = load_config(folder / _CONFIG), load_secret(folder / _KEY)
    say(f"a fresh key: {key.key_id}; {config.scheme.name}, context width {config.context_width}")
    return Run(folder, source, size, config, key, tokenizer, say)


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file that an earlier stage wrote."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with atomic_writer(path) as file:
        file.write(text)
