"""Marking in vLLM's other ways of working: caches, schedulers, greedy decoding, several servers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.constrained_kinds import KINDS
from benchmarks.served import write_policy
from benchmarks.vllm_server import ask_chat, read_url, serve
from tests.engines.serving import (
    KEYS,
    NAMES,
    TOPICS,
    built_model,
    log10_p,
    prompt_about,
    run_script,
)
from watermark.config import WatermarkConfig, preset
from watermark.tokens import TextTokenizer, load_tokenizer

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(3600)]

DRAWING, TILTING = preset("default"), preset("red-green")
CACHES = ("cache", "no cache")


@pytest.fixture(scope="module")
def model() -> Path:
    return built_model()


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> TextTokenizer:
    return load_tokenizer(model)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> dict[str, Path]:
    return {
        name: write_policy(
            tmp_path_factory.mktemp(name),
            config.bound_to(tokenizer.fingerprint),
            KEYS,
            default="north",
        )
        for name, config in (("drawing", DRAWING), ("tilting", TILTING))
    }


def _check_together(
    answers: list[list[int]], own: list[str], tokenizer: TextTokenizer, config: WatermarkConfig
) -> None:
    """Read all answers of a key at once, since an answer alone may have had little choice.

    H0: no dependence on the key. This file makes less than a hundred readings under other keys,
    one of which is below 1e-4 with a probability under 0.01.
    """
    for key in dict.fromkeys(own):
        ids = [i for answer, name in zip(answers, own, strict=True) if name == key for i in answer]
        tails = {name: log10_p(ids, name, tokenizer, config) for name in NAMES}
        assert tails.pop(key) < -4
        assert min(tails.values()) > -4


@pytest.fixture(scope="module")
def engines(model: Path, policies: dict[str, Path]) -> dict[str, Any]:
    """The same rounds with the prefix cache and without; the second is asked for async too."""
    start = "You know many stories of the sea, of towns and of people long ago. " * 4
    prompts = [prompt_about(f"{topic}. {start}") for topic in TOPICS[:4]]
    long = {"max_tokens": 80, "min_tokens": 80}
    again = {"prompts": prompts, "keys": NAMES, "sampling": long}
    several = {
        "prompts": prompts[:2],
        "keys": ["south", "west"],
        "sampling": {**long, "n": 3, "top_p": 0.95},
    }
    seeded = {**several, "sampling": {**long, "n": 3, "seed": 9}}
    request = {
        "model": str(model),
        "rounds": [again, again, several, seeded],
        "engines": {
            "cache": {"enable_prefix_caching": True},
            "no cache": {"enable_prefix_caching": False, "async_scheduling": True},
        },
    }
    return run_script("vllm_modes_run.py", request, policies["drawing"])


@pytest.mark.parametrize("engine", CACHES)
def test_answers_are_marked_with_a_prefix_cache_and_without(
    engines: dict[str, Any], engine: str, tokenizer: TextTokenizer
) -> None:
    """The second round of the same prompts finds the first one's blocks."""
    assert (engines[engine]["prefix_hits"] > 0) == (engine == "cache")
    for answers in engines[engine]["rounds"][:2]:
        _check_together(answers, list(NAMES), tokenizer, DRAWING)


@pytest.mark.parametrize("engine", CACHES)
@pytest.mark.parametrize("seeded", [False, True])
def test_several_answers_to_each_prompt_differ_under_its_own_key(
    engines: dict[str, Any], engine: str, seeded: bool, tokenizer: TextTokenizer
) -> None:
    answers = engines[engine]["rounds"][3 if seeded else 2]
    assert len({tuple(ids) for ids in answers}) == 6
    _check_together(answers, ["south"] * 3 + ["west"] * 3, tokenizer, DRAWING)


def test_asynchronous_scheduling_marks_what_is_known_by_then(
    engines: dict[str, Any], policies: dict[str, Path]
) -> None:
    """On processors vLLM does without, whatever is asked; so its own batch is played."""
    assert engines["no cache"]["async_scheduling"] is False
    answers = {"north": [3, 5, 7, 11, 2], "east": [8, 8, 1, 4, 6]}
    reply = run_script("vllm_async_run.py", {"answers": answers}, policies["drawing"])
    known, late = reply["synchronous"], reply["async"]
    assert [len(row) for step in known for row in step] == [1] * 6
    assert len({str(step) for step in known}) == 3
    assert [late[0], late[2], late[4]] == known
    assert [len(row) for step in (late[1], late[3]) for row in step] == [64] * 4


@pytest.fixture(scope="module")
def greedy(model: Path, policies: dict[str, Path]) -> list[list[int]]:
    # Without the penalty this small model says one sentence over and over when it is greedy.
    sampling = {"max_tokens": 150, "temperature": 0.0, "repetition_penalty": 1.2}
    asked = {
        "prompts": [prompt_about(topic) for topic in TOPICS],
        "keys": [NAMES[i % 4] for i in range(len(TOPICS))],
        "sampling": sampling,
    }
    request = {"model": str(model), "rounds": [asked, asked], "engines": {"one": {}}}
    reply = run_script("vllm_modes_run.py", request, policies["tilting"])["one"]["rounds"]
    assert reply[0] == reply[1]
    answers: list[list[int]] = reply[0]
    return answers


def test_greedy_answers_carry_a_tilt(greedy: list[list[int]], tokenizer: TextTokenizer) -> None:
    """450 tokens of each key."""
    _check_together(greedy, [NAMES[i % 4] for i in range(12)], tokenizer, TILTING)


def test_two_api_processes_mark_alike_and_tool_calls_stay_valid(
    model: Path, policies: dict[str, Path], tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    """Red-green, so that greedy requests are marked; what both processes count is added up."""
    options = (
        "--max-num-seqs", "16", "--api-server-count", "2", "--enable-log-requests",
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    )  # fmt: skip
    calls = [KINDS["tool: named"], KINDS["tool: required"]] * 4
    log = tmp_path / "server.log"
    with serve(model, policies["tilting"], log, *options) as url, ThreadPoolExecutor(24) as pool:

        def story(i: int) -> tuple[int, str]:
            more = {"temperature": 0.0, "repetition_penalty": 1.2} if i % 2 else {}
            topic, key = f"Tell me a long story about {TOPICS[i % 12]}.", NAMES[i % 4]
            return ask_chat(url, topic, key, max_tokens=150, **more)

        def call(i: int) -> tuple[int, str]:
            kind = calls[i]
            prompt = kind.prompt.format(TOPICS[i])
            return ask_chat(url, prompt, NAMES[i % 4], max_tokens=300, **kind.fields)

        def refused(_: int) -> tuple[int, str]:
            return ask_chat(url, "Hello", "nobody")

        stories, called = pool.map(story, range(12)), pool.map(call, range(8))
        refusals = pool.map(refused, range(6))
        told, tools, refusals = list(stories), list(called), list(refusals)
        metrics = read_url(url + "/metrics")
    assert [status for status, _ in told + tools] == [200] * 20
    assert [status for status, _ in refusals] == [400] * 6
    assert 'heirmark_requests_total{status="marked"} 20.0' in metrics
    assert 'heirmark_requests_total{status="refused"} 6.0' in metrics
    answers = [json.loads(text)["choices"][0]["token_ids"] for _, text in told]
    _check_together(answers, [NAMES[i % 4] for i in range(12)], tokenizer, TILTING)
    choices = [json.loads(text)["choices"][0] for _, text in tools]
    # One call in forty repeats line breaks until it is cut off, marked or not.
    ended = [i for i, choice in enumerate(choices) if choice["finish_reason"] != "length"]
    assert len(ended) >= 5
    for kind, choice in ((calls[i], choices[i]) for i in ended):
        (made,) = choice["message"]["tool_calls"]
        arguments = json.loads(made["function"]["arguments"])
        assert set(arguments) == set(kind.schema[made["function"]["name"]]["properties"])
    assert not any(key.secret.hex() in log.read_text() for key in KEYS.values())
    added = [line for line in log.read_text().splitlines() if "Added request" in line]
    assert {name for name in ("ApiServer_0", "ApiServer_1") for line in added if name in line} == {
        "ApiServer_0",
        "ApiServer_1",
    }
