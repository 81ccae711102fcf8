"""Runs the kernels for accelerators in Triton's interpreter, in its own environment.

Requests name a function of this file by "ask"; `test_triton.py` builds them.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from watermark.kernels import triton_prf
from watermark.kernels.triton_tilt import TiltTiling, tilt_green
from watermark.kernels.triton_tournament import TournamentTiling, play_tournament
from watermark.kernels.triton_winners import Tiling, gumbel_winners, rough_values

# Infinities and NaN are computed with on purpose.
warnings.simplefilter("ignore", RuntimeWarning)


def _long(numbers: list[Any]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def _floats(numbers: list[Any] | None) -> torch.Tensor | None:
    return None if numbers is None else torch.tensor(numbers, dtype=torch.float32)


def words(request: dict[str, Any]) -> list[Any]:
    found = []
    for case in request["cases"]:
        contexts = _long(case["contexts"]).reshape(len(case["keys"]), -1)
        hashes = triton_prf.context_hashes(_long(case["keys"]), contexts)
        made = triton_prf.words(hashes, _long(case["tokens"]), _long(case["streams"]))
        found.append({"hashes": hashes.tolist(), "words": made.tolist()})
    return found


def rough(request: dict[str, Any]) -> list[float]:
    logits = torch.tensor(request["logits"], dtype=torch.float32)
    found: list[float] = rough_values(logits, _long(request["words"])).double().tolist()
    return found


def winners(request: dict[str, Any]) -> list[Any]:
    found = []
    for case in request["cases"]:
        logits = torch.tensor(case["logits"], dtype=torch.float32)
        rows = None if case["rows"] is None else _long(case["rows"])
        tokens = gumbel_winners(
            _long(case["hashes"]), _long(case["streams"]), logits, rows, _floats(case["least"]),
            forces=case["forces"], tiling=Tiling(*case["tiling"]),
        )  # fmt: skip
        found.append({"tokens": tokens.tolist(), "logits": logits.tolist()})
    return found


def tilt(request: dict[str, Any]) -> list[Any]:
    found = []
    for case in request["cases"]:
        logits = torch.tensor(case["logits"], dtype=torch.float32)
        rows = None if case["rows"] is None else _long(case["rows"])
        tilt_green(
            _long(case["hashes"]), _long(case["streams"]), logits, case["first_red"],
            case["delta"], rows, _floats(case["scales"]), tiling=TiltTiling(*case["tiling"]),
        )  # fmt: skip
        found.append(logits.tolist())
    return found


def tournament(request: dict[str, Any]) -> list[Any]:
    found = []
    for case in request["cases"]:
        logits = torch.tensor(case["logits"], dtype=torch.float32)
        rows = None if case["rows"] is None else _long(case["rows"])
        play_tournament(
            _long(case["hashes"]), _long(case["streams"]), logits, case["n_layers"], rows,
            tiling=TournamentTiling(*case["tiling"]),
        )  # fmt: skip
        found.append(logits.tolist())
    return found


def main() -> None:
    request = json.load(sys.stdin)
    print(json.dumps({"reply": globals()[request["ask"]](request)}))


if __name__ == "__main__":
    main()
