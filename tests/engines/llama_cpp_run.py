"""Runs in llama-cpp-python's environment: one marked Llama, all that is asked of it, JSON out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from llama_cpp import Llama
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

from watermark.config import WatermarkConfig, preset
from watermark.errors import WatermarkError
from watermark.schemes.red_green import RedGreen
from watermark.serving.llama_cpp import RequestProcessors, mark_llama
from watermark.serving.policy import Policy, load_policy
from watermark.tokens import load_tokenizer

LONG = {"max_tokens": 70, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
SAMPLINGS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 1.0, "top_p": 0.95, "top_k": 100},
    {"repeat_penalty": 1.1, "min_p": 0.01},
)
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
}


def _named(key: str) -> RequestProcessors:
    return RequestProcessors({"heirmark_key_id": key})


def _ids(llama: Llama, n_prompt: int) -> list[int]:
    """Tokens that the model has read of its answer: all but the last."""
    return [int(i) for i in llama.input_ids[n_prompt : llama.n_tokens]]


def _chat(llama: Llama, text: str, key: str, **options: Any) -> tuple[list[int], dict[str, Any]]:
    reply: Any = llama.create_chat_completion(
        [{"role": "user", "content": text}],
        logits_processor=_named(key),  # type: ignore[arg-type]
        **{**LONG, **options},
    )
    return _ids(llama, reply["usage"]["prompt_tokens"]), reply


def _streamed(llama: Llama, text: str, key: str) -> dict[str, Any]:
    prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    n_prompt = len(llama.tokenize(prompt.encode(), special=True))
    chunks: Any = llama.create_completion(
        prompt,
        stream=True,
        logits_processor=_named(key),  # type: ignore[arg-type]
        **LONG,
    )
    pieces = [chunk["choices"][0]["text"] for chunk in chunks]
    return {"ids": _ids(llama, n_prompt), "pieces": pieces}


def _refusal(attempt: Callable[[], object]) -> list[str]:
    try:
        attempt()
    except WatermarkError as error:
        return [type(error).__name__, str(error)]
    return []


def _refusals(llama: Llama, path: str, policy: Policy, foreign: str) -> dict[str, list[str]]:
    def said(arguments: dict[str, object]) -> list[str]:
        processors = RequestProcessors(arguments)
        return _refusal(lambda: llama.create_completion("A", logits_processor=processors))  # type: ignore[arg-type]

    fresh = Llama(path, n_ctx=64, verbose=False)
    other = Policy(preset("default"), policy.keys, policy.default)
    return {
        "greedy": _refusal(lambda: llama.create_completion("A", temperature=0.0)),
        "mirostat": _refusal(lambda: llama.create_completion("A", mirostat_mode=2)),
        "streamed greedy": _refusal(
            lambda: list(llama.create_completion("A", temperature=0.0, stream=True))
        ),
        "unknown key": said({"heirmark_key_id": "nobody"}),
        "own key": said({"heirmark_key": "31337"}),
        "opt out": said({"heirmark_opt_out": True}),
        "nested": _refusal(
            lambda: llama.create_completion("A", logits_processor=[_named("east")])  # type: ignore[arg-type, list-item]
        ),
        "sample": _refusal(lambda: _sample_alone(path, policy)),
        "twice": _refusal(lambda: mark_llama(llama, policy)),
        "no llama": _refusal(lambda: mark_llama(object(), policy)),
        "fingerprint": _refusal(
            lambda: mark_llama(fresh, policy, tokenizer=load_tokenizer(foreign))
        ),
        "cuts": _refusal(lambda: mark_llama(fresh, other, tokenizer=load_tokenizer(foreign))),
    }


def _sample_alone(path: str, policy: Policy) -> int:
    llama = Llama(path, n_ctx=64, verbose=False)
    mark_llama(llama, policy)
    llama.eval([1, 2, 3])
    return int(llama.sample())


def _broken(llama: Llama) -> list[str]:
    """An error inside llama.cpp's chain, where ctypes would print and forget it."""
    marker = llama.generate.__self__._marker  # type: ignore[attr-defined]
    marking = type(marker).mark
    try:
        type(marker).mark = lambda *arguments: 1 / 0
        llama.create_completion("A", max_tokens=5)
    except ZeroDivisionError as error:
        return [type(error).__name__]
    finally:
        type(marker).mark = marking
    return []


def _with_nan(llama: Llama) -> int:
    """Logits of a broken model; the Llama must live on."""

    def spoil(ids: Any, logits: Any) -> Any:
        logits[5] = float("nan")
        return logits

    processors = RequestProcessors({}, [spoil])
    llama.create_completion("A", max_tokens=4, logits_processor=processors)  # type: ignore[arg-type]
    tally = llama.generate.__self__._marker.tally  # type: ignore[attr-defined]
    return int(tally.counts["bad logits"])


def main() -> None:
    request = json.load(sys.stdin)
    path, keys, prompts = request["model"], request["keys"], request["prompts"]
    policy = load_policy(request["policy"])
    llama = Llama(path, n_ctx=1024, n_threads=2, verbose=False, seed=7)
    mark_llama(llama, policy, tokenizer=load_tokenizer(request["tokenizer"]))
    answers = []
    for i, prompt in enumerate(prompts):
        key = keys[i % len(keys)]
        answers.append((key, _chat(llama, prompt, key, **SAMPLINGS[i % len(SAMPLINGS)])[0]))
    default: Any = llama.create_chat_completion([{"role": "user", "content": prompts[0]}], **LONG)  # type: ignore[arg-type]
    answers.append((policy.default, _ids(llama, default["usage"]["prompt_tokens"])))
    biased, _ = _chat(llama, prompts[1], keys[1], logit_bias={"28": -100, "30": -100})
    seeded = [_chat(llama, prompts[0], keys[0], seed=5, max_tokens=20)[0] for _ in range(2)]
    _, stopped = _chat(llama, prompts[2], keys[0], stop=["."])
    constrained = []
    for seed in range(2):
        form = {"type": "json_object", "schema": SCHEMA}
        _, reply = _chat(
            llama, "Describe a sailor.", keys[0], seed=seed, max_tokens=120, response_format=form
        )
        constrained.append(reply["choices"][0])
    refusals = _refusals(llama, path, policy, request["foreign"])
    reply = {
        "answers": answers,
        "biased": biased,
        "seeded": seeded,
        "stopped": stopped["choices"][0],
        "streamed": _streamed(llama, prompts[3], keys[1]),
        "constrained": constrained,
        "refusals": refusals,
        "broken": _broken(llama),
        "nan": _with_nan(llama),
        "after": _chat(llama, prompts[4], keys[0])[0],
        "drafted": _drafted(path, policy),
        "greedy": _green(path, policy, prompts[0]),
    }
    print(json.dumps(reply))


def _drafted(path: str, policy: Policy) -> list[int]:
    llama = Llama(
        path, n_ctx=512, verbose=False, draft_model=LlamaPromptLookupDecoding(num_pred_tokens=4)
    )
    mark_llama(llama, policy)
    # Repetitive, so that drafts are there and are at times accepted.
    text = "one two three four five six seven eight nine ten " * 6
    prompt = llama.tokenize(text.encode())
    ids = []
    for token in llama.generate(prompt, temp=1.0, top_k=0, top_p=1.0, min_p=0.0):
        ids.append(int(token))
        if len(ids) == 90:
            break
    return ids


def _green(path: str, policy: Policy, prompt: str) -> list[int]:
    """Greedy decoding, which a red-green list marks as well."""
    llama = Llama(path, n_ctx=512, verbose=False)
    mark_llama(llama, Policy(WatermarkConfig(RedGreen(0.5, 4.0), 2), policy.keys, policy.default))
    reply: Any = llama.create_chat_completion(
        [{"role": "user", "content": prompt}], max_tokens=80, temperature=0.0
    )
    return _ids(llama, reply["usage"]["prompt_tokens"])


if __name__ == "__main__":
    main()
