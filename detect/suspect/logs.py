"""Logged answers, and counterfactual ones: what the provider's model could as well have said.

Two kinds, which support different claims:

- `SAME_KEY`: further answers to each logged prompt under the key of the logs, with fresh coins.
  Given key and prompts the logged answer and its counterfactuals are independent draws of one
  law, and independent of those to other prompts. A suspect that learned the key from other answers
  still cannot tell them apart; one that saw these very answers can.
- `NEVER_ISSUED`: whole copies of the logs, each under a key of its own that nobody ever got. Keys
  are exchangeable, the single answers are not: all answers under one key share its words, so that
  an innocent that happens to like one often-met token likes them all. The unit of this kind is
  therefore the key: one rank for all answers under it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, final

from watermark.config import WatermarkConfig
from watermark.errors import DocumentError, FingerprintError
from watermark.generation.answering import answer_prompts
from watermark.keys import Key, SecretKey
from watermark.models import resolve_model
from watermark.storage.files import read_json, read_text_file
from watermark.tokens import load_tokenizer

__all__ = [
    "Candidates",
    "Kind",
    "LoggedAnswer",
    "draw_counterfactuals",
    "read_candidates",
    "read_logs",
]

_FORMAT: Final = "heirmark-counterfactuals-1"


@final
class Kind(StrEnum):
    """How counterfactual answers differ from the logged ones."""

    SAME_KEY = "same-key"
    NEVER_ISSUED = "never-issued"


@final
@dataclass(frozen=True)
class LoggedAnswer:
    """One exchange of the provider's logs.

    Attributes:
        prompt: the user message.
        text: the answer as it was given out.
        account: who got it, if that is to be tested.
        token_ids: its tokens as they were drawn, if they were logged.
        key_id: public id of the key that marked it, if it was logged.
        config_fingerprint: the deployment's, if it was logged.
        sampling: max_new_tokens, temperature and top_k, if they were logged.
    """

    prompt: str
    text: str
    account: str | None = None
    token_ids: tuple[int, ...] | None = None
    key_id: str | None = None
    config_fingerprint: str | None = None
    sampling: dict[str, Any] | None = None


@final
@dataclass(frozen=True)
class Candidates:
    """Logged answers under one key with their counterfactuals.

    Attributes:
        kind: how the counterfactuals differ.
        key_id: public id of the logs' key.
        config: the deployment, bound to its tokenizer.
        settings: of the sampling: model, max_new_tokens, temperature, top_k, seed.
        answers: in the order of the logs, which is that of time.
        counterfactuals: as many texts for each answer; with never-issued keys text j of every
            answer is marked under the same key.
        n_unchecked: answers whose key, config, tokens or sampling were not logged, and so not
            compared.
    """

    kind: Kind
    key_id: str
    config: WatermarkConfig
    settings: dict[str, Any]
    answers: tuple[LoggedAnswer, ...]
    counterfactuals: tuple[tuple[str, ...], ...]
    n_unchecked: int

    def __post_init__(self) -> None:
        counts = {len(texts) for texts in self.counterfactuals}
        if not self.answers or len(self.answers) != len(self.counterfactuals):
            raise DocumentError("expected logged answers, each with its counterfactuals")
        if len(counts) != 1 or 0 in counts:
            raise DocumentError("each logged answer needs as many counterfactuals as the others")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; the key is named, never shown."""
        return {
            "format": _FORMAT,
            "counterfactuals": self.kind.value,
            "key_id": self.key_id,
            "config": self.config.to_dict(),
            "settings": self.settings,
            "n_unchecked": self.n_unchecked,
            "answers": [
                {"prompt": a.prompt, "text": a.text, "account": a.account, "others": list(others)}
                for a, others in zip(self.answers, self.counterfactuals, strict=True)
            ],
        }


def read_candidates(path: str | Path) -> Candidates:
    """Read what `Candidates.to_dict` gave.

    Args:
        path: the JSON file.

    Returns:
        The candidates.

    Raises:
        DocumentError: not such a file.
    """
    payload = read_json(path)
    if not isinstance(payload, dict) or payload.get("format") != _FORMAT:
        raise DocumentError(f"{path}: expected a file of heirmark counterfactuals draw")
    try:
        rows = payload["answers"]
        return Candidates(
            Kind(payload["counterfactuals"]),
            str(payload["key_id"]),
            WatermarkConfig.from_dict(payload["config"]),
            dict(payload["settings"]),
            tuple(LoggedAnswer(r["prompt"], r["text"], r["account"]) for r in rows),
            tuple(tuple(map(str, r["others"])) for r in rows),
            int(payload["n_unchecked"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DocumentError(
            f"{path} is damaged ({error}); draw the counterfactuals again"
        ) from None


def read_logs(path: str | Path) -> list[LoggedAnswer]:
    """Read logged answers, as `heirmark generate` writes them.

    Args:
        path: JSONL with "prompt" and "text", perhaps "account", "token_ids", "key_id",
            "config_fingerprint" and "sampling"; in the order of time. "-" is standard input.

    Returns:
        The answers.

    Raises:
        DocumentError: no line at all, or one that is no such object; names the line.
    """
    lines = read_text_file(path).split("\n")
    found = [_logged(f"{path}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise DocumentError(f"{path} is empty; expected JSON objects, one a line")
    return found


def _logged(place: str, line: str) -> LoggedAnswer:
    try:
        row = json.loads(line)
        prompt, text, ids = row["prompt"], row["text"], row.get("token_ids")
        account, key_id, config = (row.get(k) for k in ("account", "key_id", "config_fingerprint"))
        sampling = row.get("sampling")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        prompt = text = ids = account = key_id = config = sampling = None
    if not (isinstance(prompt, str) and isinstance(text, str)):
        raise DocumentError(f'{place}: expected a JSON object with text in "prompt" and "text"')
    if not all(value is None or isinstance(value, str) for value in (account, key_id, config)):
        raise DocumentError(f"{place}: expected text in account, key_id and config_fingerprint")
    if not (sampling is None or isinstance(sampling, dict)):
        raise DocumentError(f'{place}: expected an object in "sampling"')
    if ids is not None:
        if not (isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids)):
            raise DocumentError(f'{place}: expected a list of whole numbers in "token_ids"')
        ids = tuple(ids)
    return LoggedAnswer(prompt, text, account, ids, key_id, config, sampling)


def draw_counterfactuals(
    model: str | Path,
    answers: Sequence[LoggedAnswer],
    *,
    config: WatermarkConfig,
    key: Key,
    kind: Kind,
    n: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    batch_size: int = 64,
    seed: int | None = None,
    on_tokens: Callable[[int], object] = lambda n: None,
) -> Candidates:
    """Let the provider's model answer the logged prompts again.

    Args:
        model: the model that gave the logged answers: "smollm2", a folder or a Hub id.
        answers: logged answers under the key, none left out for what it says.
        config: the deployment that marked them.
        key: the key that marked them.
        kind: which counterfactuals.
        n: how many for each answer.
        max_new_tokens: longest answer, as it was for the logs.
        temperature: as it was for the logs.
        top_k: as it was for the logs.
        batch_size: answers drawn side by side.
        seed: of the coins; None draws one. It must not be a seed of the logs: the coins would be
            the same.
        on_tokens: called with the number of tokens drawn since the last call.

    Returns:
        The candidates.

    Raises:
        DocumentError: logged tokens that do not give the logged text, or too many of them.
        FingerprintError: logged under another key or config, or with other sampling.
    """
    folder = resolve_model(model)
    tokenizer = load_tokenizer(folder)
    bound = config.bound_to(tokenizer.fingerprint) if config.tokenizer is None else config
    law = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k}
    for number, answer in enumerate(answers, 1):
        _check_deployment(number, answer, bound, key)
        _check_sampling(number, answer, law)
        if answer.token_ids is not None:
            _check_tokens(number, answer, tokenizer.decode(answer.token_ids), max_new_tokens)
    seed = secrets.randbits(62) if seed is None else seed
    prompts = [answer.prompt for answer in answers]

    def drawn(chosen: Sequence[str], own: Key, world: int) -> list[str]:
        answered = answer_prompts(
            folder, chosen, config=bound, key=own, on_tokens=on_tokens,
            max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k,
            batch_size=batch_size, seed=seed + world,
        )  # fmt: skip
        return [row["text"] for row in answered.rows]

    if kind is Kind.SAME_KEY:
        texts = drawn([p for p in prompts for _ in range(n)], key, 0)
        others = [tuple(texts[i : i + n]) for i in range(0, len(texts), n)]
    else:
        worlds = [drawn(prompts, SecretKey.generate(), world) for world in range(n)]
        others = list(zip(*worlds, strict=True))
    settings = {"model": folder.name, **law, "seed": seed}
    n_unchecked = sum(not _is_complete(answer, law) for answer in answers)
    return Candidates(kind, key.key_id, bound, settings, tuple(answers), tuple(others), n_unchecked)


def _check_deployment(number: int, answer: LoggedAnswer, config: WatermarkConfig, key: Key) -> None:
    if answer.key_id not in (None, key.key_id):
        raise FingerprintError(
            f"logged answer {number} is marked under {answer.key_id}, and the key is {key.key_id}; "
            "draw for each key by itself"
        )
    if answer.config_fingerprint not in (None, config.fingerprint):
        raise FingerprintError(
            f"logged answer {number} was marked with another config or tokenizer than the given "
            "one: its counterfactuals would not be of the same law. Give the config of the logs"
        )


def _is_complete(answer: LoggedAnswer, law: dict[str, float]) -> bool:
    """Tell whether all that could be compared was logged."""
    known = (answer.key_id, answer.config_fingerprint, answer.token_ids)
    return None not in known and law.keys() <= (answer.sampling or {}).keys()


def _check_sampling(number: int, answer: LoggedAnswer, law: dict[str, float]) -> None:
    logged = answer.sampling or {}
    other = [name for name, value in law.items() if logged.get(name, value) != value]
    if other:
        raise FingerprintError(
            f"logged answer {number} was drawn with "
            + ", ".join(f"{name} {logged[name]}" for name in other)
            + ", and its counterfactuals would be with "
            + ", ".join(f"{name} {law[name]}" for name in other)
            + ": they would be of another law. Give what the logs were drawn with"
        )


def _check_tokens(number: int, answer: LoggedAnswer, decoded: str, longest: int) -> None:
    n_tokens = len(answer.token_ids or ())
    if n_tokens > longest:
        raise DocumentError(
            f"logged answer {number} has {n_tokens} tokens, and counterfactuals would have at "
            f"most {longest}; give the limit of the logs as max_new_tokens"
        )
    if decoded != answer.text:
        raise DocumentError(
            f"the text of logged answer {number} is not that of its tokens: it was edited after it "
            "was drawn, which its counterfactuals would not be. Log the text as it was drawn"
        )
