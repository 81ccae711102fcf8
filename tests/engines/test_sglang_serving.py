"""The adapter on SGLang's real base class, parameters and call; SGLang itself needs CUDA."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.served import write_policy
from detect.scoring.scores import score_pairs, select_pairs
from detect.tails.nulls import tail
from tests.engines.oracle import ROOT
from watermark.config import preset
from watermark.keys import SecretKey

PYTHON = ROOT / ".engines" / "sglang" / "bin" / "python"
KEYS = {name: SecretKey(bytes([50 + i]) * 32) for i, name in enumerate(("north", "east"))}
CONFIG = preset("default")
EAST = {"custom_params": {"heirmark_key_id": "east"}}
SECRET = KEYS["east"].secret.hex()
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("north", {"custom_params": {}}),
    ("east", {**EAST, "temperature": 0.9, "top_k": 200, "top_p": 0.98}),
    ("north", {"custom_params": {"heirmark_key_id": "north"}, "min_p": 0.001}),
    ("east", {"custom_params": {"heirmark_key_id": KEYS["east"].key_id}, "sampling_seed": -3}),
)
STEPS: dict[str, dict[str, Any]] = {
    "marked": {"asked": EAST, "ids": [3, 4, 5]},
    "no context": {"asked": EAST, "ids": [3]},
    "met context": {"asked": EAST, "ids": [3, 4, 5, 3, 4]},
    "nan": {"asked": EAST, "ids": [3, 4, 5], "nan": True},
    "greedy": {"asked": {**EAST, "temperature": 0.0}, "ids": [3, 4, 5]},
    "beams": {"asked": {**EAST, "beam_width": 2}, "ids": [3, 4, 5]},
    "native": {"asked": {**EAST, "watermark": {"enabled": False}}, "ids": [3, 4, 5]},
    "unknown key": {"asked": {"custom_params": {"heirmark_key_id": SECRET}}, "ids": [3, 4, 5]},
    "own key": {"asked": {"custom_params": {"heirmark_key": SECRET}}, "ids": [3, 4, 5]},
    "opt out": {"asked": {"custom_params": {"heirmark_opt_out": True}}, "ids": [3, 4, 5]},
    "overlap": {"asked": EAST, "ids": [3, 4, 5], "no_overlap": False},
    "speculative": {"asked": EAST, "ids": [3, 4, 5], "speculative": "EAGLE3"},
    "no custom_params": {"asked": {}, "ids": [3, 4, 5]},
    "open gate": {"asked": EAST, "ids": [3, 4, 5], "min_entropy": 1.0},
    "shut gate": {"asked": EAST, "ids": [3, 4, 5], "min_entropy": 4.9},
    "border before": {"asked": EAST, "ids": [3, 4, 10, 5, 6], "border": 10},
    "border just before": {"asked": EAST, "ids": [3, 4, 5, 10, 6], "border": 10},
    "border beyond": {"asked": EAST, "ids": [3, 4, 5], "border": 50},
}


@pytest.fixture(scope="module")
def reply(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not PYTHON.exists():
        pytest.skip("the environment of sglang is not built; run: make engines")
    folder = tmp_path_factory.mktemp("policy")
    policy_file = write_policy(folder, CONFIG, KEYS, default="north")
    generate = {"vocabulary": 400, "n_tokens": 120, "seed": 3, "requests": [r for _, r in REQUESTS]}
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name("sglang_classes_run.py")],
        input=json.dumps({"generate": generate, "steps": STEPS}),
        capture_output=True,
        text=True,
        timeout=900,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HEIRMARK_POLICY": str(policy_file),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _log10_p(ids: list[int], name: str) -> float:
    selection = select_pairs(
        np.array(ids), CONFIG.context_width, drop_repeated_contexts=True, source=CONFIG.source
    )
    scores = score_pairs(selection, CONFIG, CONFIG.source.under(KEYS[name]))
    return tail(CONFIG.scheme.law, float(scores.sum()), len(scores)).log10_p


def test_a_batch_is_marked_each_request_under_its_own_key(reply: dict[str, Any]) -> None:
    for (own, _), answer in zip(REQUESTS, reply["generate"], strict=True):
        assert answer["refusal"] is None
        assert _log10_p(answer["ids"], own) < -6
        # Four answers at 10^-3: a false alarm with probability 0.004, on fixed texts.
        assert _log10_p(answer["ids"], "east" if own == "north" else "north") > -3


def test_what_a_request_carries_is_a_name_and_no_secret(reply: dict[str, Any]) -> None:
    pickled = bytes.fromhex(json.loads(reply["class"])["callable"])
    assert b"watermark.serving.sglang" in pickled
    assert len(pickled) < 200


@pytest.mark.parametrize(
    ("case", "n_left"),
    [
        ("marked", 1),
        ("no context", 50),
        ("met context", 50),
        ("nan", 49),
        ("open gate", 1),
        # 50 tokens have at most 3.9 nats.
        ("shut gate", 50),
        ("border before", 1),
        ("border just before", 50),
    ],
)
def test_one_step(reply: dict[str, Any], case: str, n_left: int) -> None:
    assert len(reply["steps"][case]["left"]) == n_left
    assert reply["steps"][case]["refusal"] is None


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("greedy", "temperature above 0"),
        ("beams", "beam search cannot be marked"),
        ("native", "SGLang's own watermark"),
        ("unknown key", "names no key"),
        ("own key", "keys are chosen on the server"),
        ("opt out", "marks all of its text"),
        ("overlap", "--disable-overlap-schedule"),
        ("speculative", "speculative decoding"),
        ("border beyond", "would never be found"),
    ],
)
def test_what_would_be_unmarked_is_aborted(reply: dict[str, Any], case: str, says: str) -> None:
    message, status = reply["steps"][case]["refusal"]
    assert status == 400
    assert says in message
    assert SECRET not in message


def test_a_request_that_cannot_be_refused_gets_no_text(reply: dict[str, Any]) -> None:
    assert reply["steps"]["no custom_params"]["left"] == [0]
