"""What the tests of serving share: a policy of four keys, engines' scripts, reading the answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.vllm_server import PYTHON, engine_environment
from detect.text import assess_tokens
from tests.engines.oracle import python_of
from watermark.config import WatermarkConfig
from watermark.keys import SecretKey
from watermark.models import resolve_model
from watermark.tokens import TextTokenizer

__all__ = [
    "KEYS",
    "NAMES",
    "TOPICS",
    "built_model",
    "check_own_key_only",
    "log10_p",
    "prompt_about",
    "run_script",
]

NAMES = ("north", "east", "south", "west")
KEYS = {name: SecretKey(bytes([40 + i]) * 32) for i, name in enumerate(NAMES)}
TOPICS = (
    "a lighthouse", "a clockmaker", "an old ship", "a market", "a river", "a winter",
    "a teacher", "a library", "a bridge", "a garden", "a train", "a violin",
)  # fmt: skip
# Decisions at 10^-4 under the own key and 10^-3 under another: 3 keys x 12 answers have a false
# alarm with probability 0.036; two are allowed (7e-6).
FOUND, ELSEWHERE, ALLOWED = -4.0, -3.0, 2


def built_model() -> Path:
    """Return the model's folder; skip where vLLM's environment is not built."""
    python_of("vllm")
    return resolve_model("smollm2")


def run_script(script: str, request: dict[str, Any], policy_file: Path) -> dict[str, Any]:
    """Run a script of this folder in vLLM's environment."""
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name(script)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=3000,
        env=engine_environment(policy_file),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # The engine's own log lines may stand before the reply, and on its line.
    line = next(line for line in reversed(done.stdout.splitlines()) if "{" in line)
    reply: dict[str, Any] = json.loads(line[line.index("{") :])
    return reply


def prompt_about(topic: str) -> str:
    """Return a chat's beginning that asks for a story."""
    return (
        f"<|im_start|>user\nTell me a long story about {topic}.<|im_end|>\n<|im_start|>assistant\n"
    )


def log10_p(ids: list[int], name: str, tokenizer: TextTokenizer, config: WatermarkConfig) -> float:
    """Read an answer under a key."""
    config = config.bound_to(tokenizer.fingerprint)
    result = assess_tokens(
        np.array(ids), tokenizer=tokenizer, config=config, key=KEYS[name], pieces=("",) * len(ids)
    )
    return result.finding.tail.log10_p


def check_own_key_only(
    answers: list[tuple[str, list[int]]], tokenizer: TextTokenizer, config: WatermarkConfig
) -> None:
    """Assert that every answer is found under its key, and under no other."""
    elsewhere = 0
    for own, ids in answers:
        assert log10_p(ids, own, tokenizer, config) < FOUND
        others = [name for name in NAMES if name != own]
        elsewhere += sum(log10_p(ids, name, tokenizer, config) < ELSEWHERE for name in others)
    assert elsewhere <= ALLOWED
