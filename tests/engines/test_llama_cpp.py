"""Marking inside llama-cpp-python for real, on the real GGUF file."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.served import write_policy
from detect.text import assess_tokens
from tests.engines.oracle import ROOT
from watermark.config import WatermarkConfig, preset
from watermark.keys import SecretKey
from watermark.models import find_smollm2_gguf, resolve_model
from watermark.schemes.red_green import RedGreen
from watermark.tokens import TextTokenizer, load_tokenizer

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(3600)]

PYTHON = ROOT / ".engines" / "llama_cpp" / "bin" / "python"
KEYS = {"north": SecretKey(bytes([40]) * 32), "east": SecretKey(bytes([41]) * 32)}
TOPICS = ("a lighthouse", "a clockmaker", "an old ship", "a market", "a river", "a winter")
# Under another key a log10 p below -3 has probability 0.001, for the seven answers here 0.007.
FOUND, ELSEWHERE = -4.0, -3.0


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    if not (PYTHON.parents[1] / ".installed").exists():
        pytest.skip("the environment of llama_cpp is not built; run: make engines-llama-cpp")
    return load_tokenizer(resolve_model("smollm2"))


@pytest.fixture(scope="module")
def reply(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer, tokenizer_folder: Path
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("policy")
    config = preset("default").bound_to(tokenizer.fingerprint)
    policy_file = write_policy(folder, config, KEYS, default="north")
    request = {
        "model": str(find_smollm2_gguf()),
        "tokenizer": str(resolve_model("smollm2")),
        "foreign": str(tokenizer_folder),
        "policy": str(policy_file),
        "keys": list(KEYS),
        "prompts": [f"Tell me a long story about {topic}." for topic in TOPICS],
    }
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name("llama_cpp_run.py")],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=3000,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _log10_p(
    ids: list[int], name: str, tokenizer: TextTokenizer, config: WatermarkConfig | None = None
) -> float:
    result = assess_tokens(
        np.array(ids),
        tokenizer=tokenizer,
        config=config or preset("default").bound_to(tokenizer.fingerprint),
        key=KEYS[name],
        pieces=("",) * len(ids),
    )
    return result.finding.tail.log10_p


def test_every_answer_is_found_under_its_own_key(
    reply: dict[str, Any], tokenizer: TextTokenizer
) -> None:
    """Several samplings, chat and default key; temperature and truncation are llama.cpp's."""
    assert [name for name, _ in reply["answers"]] == ["north", "east"] * 3 + ["north"]
    for name, ids in reply["answers"]:
        assert _log10_p(ids, name, tokenizer) < FOUND
        other = "east" if name == "north" else "north"
        assert _log10_p(ids, other, tokenizer) > ELSEWHERE


def test_logit_bias_loses_neither_mark_nor_key(
    reply: dict[str, Any], tokenizer: TextTokenizer
) -> None:
    """The library's own list of processors would be lost."""
    assert not {28, 30} & set(reply["biased"])
    assert _log10_p(reply["biased"], "east", tokenizer) < FOUND


def test_a_seed_repeats_an_answer(reply: dict[str, Any]) -> None:
    assert reply["seeded"][0] == reply["seeded"][1]
    # The last token is drawn, but not read any more.
    assert len(reply["seeded"][0]) == 19


def test_a_stop_ends_the_answer(reply: dict[str, Any]) -> None:
    assert reply["stopped"]["finish_reason"] == "stop"
    assert "." not in reply["stopped"]["message"]["content"]


def test_streamed_text_is_marked(reply: dict[str, Any], tokenizer: TextTokenizer) -> None:
    streamed = reply["streamed"]
    assert len(streamed["pieces"]) > 10
    assert _log10_p(streamed["ids"], "east", tokenizer) < FOUND


def test_a_json_schema_stays_valid(reply: dict[str, Any]) -> None:
    for choice in reply["constrained"]:
        assert choice["finish_reason"] == "stop"
        payload = json.loads(choice["message"]["content"])
        assert isinstance(payload["name"], str)
        assert isinstance(payload["age"], int)


def test_drafted_text_is_marked(reply: dict[str, Any], tokenizer: TextTokenizer) -> None:
    """Where drafts are read ahead, contexts end at the token before, not at the drafts."""
    assert len(reply["drafted"]) == 90
    assert _log10_p(reply["drafted"], "north", tokenizer) < FOUND


def test_a_green_list_marks_greedy_decoding(
    reply: dict[str, Any], tokenizer: TextTokenizer
) -> None:
    config = WatermarkConfig(RedGreen(0.5, 4.0), 2)
    assert _log10_p(reply["greedy"], "north", tokenizer, config) < FOUND


@pytest.mark.parametrize(
    ("case", "kind", "says"),
    [
        ("greedy", "RequestError", "temperature above 0"),
        ("streamed greedy", "RequestError", "temperature above 0"),
        ("mirostat", "RequestError", "mirostat"),
        ("unknown key", "RequestError", "names no key"),
        ("own key", "RequestError", "keys are chosen on the server"),
        ("opt out", "RequestError", "marks all of its text"),
        ("nested", "RequestError", "not a processor among others"),
        ("sample", "GenerationError", "where the prompt ends"),
        ("twice", "GenerationError", "marked already"),
        ("no llama", "GenerationError", "no Llama"),
        ("fingerprint", "FingerprintError", "tokenizer"),
        ("cuts", "FingerprintError", "cuts text into other tokens"),
    ],
)
def test_what_would_be_unmarked_is_refused(
    reply: dict[str, Any], case: str, kind: str, says: str
) -> None:
    got, message = reply["refusals"][case]
    assert got == kind
    assert says in message
    assert "31337" not in message


def test_an_error_inside_the_chain_is_raised(reply: dict[str, Any]) -> None:
    """Ctypes would print it, and the text would go on unmarked."""
    assert reply["broken"] == ["ZeroDivisionError"]


def test_bad_logits_are_counted_and_survived(
    reply: dict[str, Any], tokenizer: TextTokenizer
) -> None:
    assert reply["nan"] > 0
    assert _log10_p(reply["after"], "north", tokenizer) < FOUND
