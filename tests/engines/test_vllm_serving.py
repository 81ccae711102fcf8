"""Marking inside vLLM for real: offline, through its OpenAI server, and against both interfaces."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.served import write_policy
from benchmarks.vllm_server import ask_chat, read_url, serve
from tests.engines.serving import (
    KEYS,
    NAMES,
    TOPICS,
    built_model,
    check_own_key_only,
    prompt_about,
    run_script,
)
from tests.watermark.serving.engine_doubles import BatchUpdate, Params, policy_of
from watermark.config import preset
from watermark.serving.vllm_v1 import RunnerV1
from watermark.tokens import TextTokenizer, load_tokenizer

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(3600)]

CONFIG = preset("default")


@pytest.fixture(scope="module")
def model() -> Path:
    return built_model()


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> TextTokenizer:
    return load_tokenizer(model)


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    return write_policy(folder, CONFIG.bound_to(tokenizer.fingerprint), KEYS, default="north")


@pytest.fixture(scope="module")
def offline(model: Path, policy_file: Path) -> dict[str, Any]:
    request = {
        "model": str(model),
        "keys": NAMES,
        "prompts": [prompt_about(topic) for topic in TOPICS],
        "blocks": 24,
    }
    return run_script("vllm_offline_run.py", request, policy_file)


def test_a_batch_of_four_keys_and_samplings_is_found_under_each(
    offline: dict[str, Any], tokenizer: TextTokenizer
) -> None:
    """Preempted requests among them: the cache holds half of the batch."""
    assert offline["preemptions"] > 0
    own = [NAMES[i % 4] for i in range(len(TOPICS))]
    check_own_key_only(list(zip(own, offline["answers"], strict=True)), tokenizer, CONFIG)


def test_several_answers_to_a_prompt_differ_and_are_all_found(
    offline: dict[str, Any], tokenizer: TextTokenizer
) -> None:
    several = offline["several"]
    assert len({tuple(ids) for ids in several}) == 3
    check_own_key_only([("north", ids) for ids in several], tokenizer, CONFIG)


def test_a_seed_repeats_an_answer(offline: dict[str, Any]) -> None:
    assert offline["seeded"][0] == offline["seeded"][1]


def test_structured_outputs_stay_valid(offline: dict[str, Any]) -> None:
    assert set(offline["constrained_ends"]) == {"stop"}
    for text in offline["constrained"]:
        payload = json.loads(text)
        assert isinstance(payload["name"], str)
        assert isinstance(payload["age"], int)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("unknown key", "names no key"),
        ("greedy", "temperature above 0"),
        ("own key", "keys are chosen on the server"),
        ("opt out", "marks all of its text"),
        ("native opt out", "vLLM's own watermark"),
        ("beams", "beam search cannot be marked"),
    ],
)
def test_what_would_be_unmarked_is_refused(offline: dict[str, Any], case: str, says: str) -> None:
    assert says in offline["refusals"][case]
    assert "31337" not in offline["refusals"][case]


def test_both_runners_accept_the_class_and_v2_marks_drafts(policy_file: Path, model: Path) -> None:
    """V2's real interface and context; the tokens are those that V1's adapter draws."""
    answer = [3, 5, 7, 11, 3, 5]
    request = {"key": "east", "answer": answer, "drafts": [0, 1, 2, 3]}
    reply = run_script("vllm_classes_run.py", request, policy_file)
    assert reply["same"]
    assert reply["interfaces"] == [True, True]
    assert "temperature above 0" in reply["refusal"]
    import torch

    for n_drafts, rows in reply["rows"].items():
        n = int(n_drafts) + 1
        logits = torch.randn((n, 64), generator=torch.Generator().manual_seed(1))
        for row in range(n):
            seen = answer[: len(answer) - int(n_drafts) + row]
            runner = RunnerV1(policy_of(preset("default")), 0)
            runner._policy = _east_policy()
            params = Params("east", temperature=0.7, top_k=20, seed=5)
            runner.update(BatchUpdate(1, added=[(0, params, None, seen)]))
            alone = runner.apply(logits[row : row + 1] / 0.7)[0]
            assert rows[row] == alone.isfinite().nonzero().flatten().tolist()
            # The last context, (3, 5), has stood at the start.
            assert (len(rows[row]) == 1) == (len(seen) < len(answer))


def _east_policy() -> Any:
    from watermark.serving.policy import Policy

    return Policy(preset("default"), KEYS, "north", frozenset(NAMES))


def _ask(url: str, topic: str, key: str | None, **body: Any) -> tuple[int, str]:
    return ask_chat(url, f"Tell me a long story about {topic}.", key, **body)


def _streamed_ids(text: str) -> list[int]:
    ids: list[int] = []
    for line in text.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                ids += choice.get("token_ids") or []
    return ids


def test_the_server_marks_what_it_serves_and_refuses_the_rest(
    model: Path, policy_file: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    """One server, since it starts slowly: concurrent, streamed, by name, by id, by default."""
    with serve(model, policy_file, tmp_path / "server.log", "--max-num-seqs", "16") as url:
        asked: list[tuple[str, str | None, bool]] = [
            ("north", None, False), ("east", "east", False), ("south", "south", False),
            ("west", KEYS["west"].key_id, False), ("north", "north", True), ("east", "east", True),
            ("south", KEYS["south"].key_id, True), ("west", "west", True),
        ]  # fmt: skip
        with ThreadPoolExecutor(len(asked)) as pool:
            waiting = [
                pool.submit(_ask, url, topic, key, stream=stream)
                for topic, (_, key, stream) in zip(TOPICS, asked, strict=False)
            ]
            replies = [future.result() for future in waiting]
        answers = []
        for (own, _, stream), (status, text) in zip(asked, replies, strict=True):
            assert status == 200, text
            whole = [] if stream else json.loads(text)["choices"][0]["token_ids"]
            answers.append((own, _streamed_ids(text) if stream else whole))
        check_own_key_only(answers, tokenizer, CONFIG)
        _check_refusals(url)
        schema = {
            "type": "object",
            "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}},
            "required": ["age"],
            "additionalProperties": False,
        }
        asked_json = {"type": "json_schema", "json_schema": {"name": "age", "schema": schema}}
        status, text = _ask(url, TOPICS[0], "east", response_format=asked_json)
        assert status == 200, text
        content = json.loads(text)["choices"][0]["message"]["content"]
        assert isinstance(json.loads(content)["age"], int)
        metrics = read_url(url + "/metrics")
    assert 'heirmark_requests_total{status="marked"} 9.0' in metrics
    assert 'heirmark_requests_total{status="refused"} 5.0' in metrics
    log = (tmp_path / "server.log").read_text()
    assert not any(key.secret.hex() in log for key in KEYS.values())


def _check_refusals(url: str) -> None:
    """HTTP 400 each, and the server goes on."""
    secret = KEYS["east"].secret.hex()
    for arguments, says in (
        ({"vllm_xargs": {"heirmark_key_id": "nobody"}}, "names no key"),
        ({"vllm_xargs": {"heirmark_key_id": secret}}, "names no key"),
        ({"vllm_xargs": {"heirmark_key": secret}}, "keys are chosen on the server"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"watermarking": False}, "own watermark"),
    ):
        status, text = _ask(url, TOPICS[0], None, **arguments)
        assert status == 400, text
        assert says in text
        assert secret not in text
