"""One exchange with a suspect as JSON values, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from detect.suspect.exchanges import ReportedPosition, SuspectAnswer
from watermark.generation.sampling import Sampling

__all__ = ["answer_of", "record_of"]


def record_of(
    position: int, prompt: str, answer: SuspectAnswer, settings: Sampling
) -> dict[str, Any]:
    """Return what one line holds, as JSON values.

    Args:
        position: of the prompt.
        prompt: the user message.
        answer: the answer to it.
        settings: how it was drawn.
    """
    # What a local model's chat format adds can be copied from, too.
    full = {"full_prompt": answer.prompt} if answer.prompt != prompt else {}
    return {
        "position": position,
        "prompt": prompt,
        **full,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "model": answer.model,
        "sampling": asdict(settings),
        "reported": [
            {
                "start": p.start,
                "tokens": [token.hex() for token in p.tokens],
                "log_probs": list(p.log_probs),
            }
            for p in answer.reported
        ],
    }


def answer_of(record: dict[str, Any]) -> SuspectAnswer:
    """Read the answer that one line holds.

    Args:
        record: the line's JSON object.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    reported = tuple(
        ReportedPosition(
            int(position["start"]),
            tuple(bytes.fromhex(token) for token in position["tokens"]),
            tuple(float(value) for value in position["log_probs"]),
        )
        for position in record.get("reported", ())
    )
    texts = [record.get("full_prompt", record["prompt"]), record["text"]]
    texts += [record.get("finish_reason", ""), record.get("model", "")]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("expected text")
    return SuspectAnswer(texts[0], texts[1], reported, texts[2], texts[3])
