"""Prompts in, answers out, on a real tiny model: rows, marks, and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from detect.text import assess_tokens
from watermark.config import preset
from watermark.errors import FingerprintError, ModelError
from watermark.generation.answering import answer_prompts
from watermark.keys import SecretKey
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
PROMPTS = ["Count the nets.", "Who was quiet?", "Say more about the sea."]


def test_marked_answers_name_key_and_config_and_carry_the_mark(
    model_folder: Path, tokenizer: TextTokenizer
) -> None:
    seen: list[int] = []
    rows, config = answer_prompts(
        model_folder,
        PROMPTS,
        config=preset("gumbel"),
        key=KEY,
        max_new_tokens=80,
        on_tokens=seen.append,
    )
    assert config is not None
    assert config.tokenizer == tokenizer.fingerprint
    assert [row["prompt"] for row in rows] == PROMPTS
    assert all(row["key_id"] == KEY.key_id for row in rows)
    assert all(row["config_fingerprint"] == config.fingerprint for row in rows)
    assert sum(seen) >= sum(len(row["token_ids"]) for row in rows)
    for row in rows:
        assert row["text"] == tokenizer.decode(row["token_ids"])
    longest = max((row["token_ids"] for row in rows), key=len)
    found = assess_tokens(np.array(longest), tokenizer=tokenizer, config=config, key=KEY)
    assert found.finding.tail.log10_p < -6


def test_unmarked_answers_name_no_key(model_folder: Path) -> None:
    rows, config = answer_prompts(model_folder, PROMPTS[:1], max_new_tokens=4)
    assert config is None
    assert sorted(rows[0]) == ["prompt", "sampling", "text", "token_ids"]
    assert rows[0]["sampling"] == {"max_new_tokens": 4, "temperature": 1.0, "top_k": 0}


def test_a_config_bound_to_another_tokenizer_is_refused(model_folder: Path) -> None:
    config = preset("gumbel").bound_to("sha256:" + "0" * 64)
    with pytest.raises(FingerprintError, match="tokenizer"):
        answer_prompts(model_folder, PROMPTS, config=config, key=KEY)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        answer_prompts(tmp_path, PROMPTS)


@pytest.mark.parametrize("missing", ["chat_template", "eos_token"])
def test_a_model_that_cannot_chat_is_refused(
    model_folder: Path, tmp_path: Path, missing: str
) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "mute"))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings[missing]
    path.write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"chat template|ends an answer"):
        answer_prompts(folder, ["Hello"], max_new_tokens=2)
