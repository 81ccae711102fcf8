"""GGUF files as llama.cpp's converter writes them: the same model comes back, damage is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import PARAGRAPH
from tests.tiny_model import TEMPLATE, write_gguf, write_model
from watermark.errors import ModelError
from watermark.gguf.conversion import convert_gguf
from watermark.models import load_model, resolve_model
from watermark.tokens import TextTokenizer, load_tokenizer


@pytest.fixture(params=["llama", "qwen2"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, tokenizer_folder: Path, tokenizer: TextTokenizer
) -> Path:
    return write_model(
        tmp_path / "tiny",
        tokenizer_folder,
        vocabulary=tokenizer.vocab_size,
        n_positions=256,
        architecture=request.param,
    )


def test_the_same_model_comes_back(folder: Path, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    path = write_gguf(folder, tmp_path / "tiny.gguf")
    # What else lies beside the file is not looked at.
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": "evil.T"}}')
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "evil.M"}}')
    converted = resolve_model(path, tmp_path / "cache")
    assert resolve_model(path, tmp_path / "cache") == converted
    ids = torch.arange(40)[None]
    original = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        expected = original(ids).logits
        found = load_model(converted, torch.float32)(ids).logits
    assert torch.allclose(found, expected, atol=1e-5)
    again = load_tokenizer(converted)
    assert again.encode(PARAGRAPH).tolist() == tokenizer.encode(PARAGRAPH).tolist()
    from transformers import AutoTokenizer

    chat = AutoTokenizer.from_pretrained(converted)
    assert chat.eos_token == "<|end|>"
    assert chat.chat_template == TEMPLATE


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def _behead(path: Path) -> None:
    path.write_bytes(b"<html>" + path.read_bytes()[6:])


def _inflate(path: Path) -> None:
    """Claim 2 ** 60 tensors."""
    content = bytearray(path.read_bytes())
    content[8:16] = (1 << 60).to_bytes(8, "little")
    path.write_bytes(content)


def _rename(old: bytes, new: bytes) -> Callable[[Path], None]:
    def rename(path: Path) -> None:
        path.write_bytes(path.read_bytes().replace(old, new))

    return rename


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncate, "cannot be converted"),
        (_behead, "cannot be converted"),
        (_inflate, "cannot be converted"),
        (lambda path: path.write_bytes(b""), "cannot be converted"),
        (_rename(b"attn_q.weight", b"attn_x.weight"), "tensor that is not known|lacks"),
    ],
)
def test_damaged_files_are_said_and_leave_nothing(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    path = write_gguf(folder, tmp_path / "tiny.gguf")
    spoil(path)
    with pytest.raises(ModelError, match=message):
        resolve_model(path, tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["tiny.sha256.json"]


def test_a_part_of_a_model_is_refused(model_folder: Path, tmp_path: Path) -> None:
    """transformers would fill what is missing with random numbers."""
    path = write_gguf(model_folder, tmp_path / "tiny.gguf")
    content = path.read_bytes()
    blocks = content.index(b"llama.block_count") + len(b"llama.block_count") + 4
    assert gguf.GGUFReader(path).fields["llama.block_count"].contents() == content[blocks] == 2
    path.write_bytes(content[:blocks] + b"\x03" + content[blocks + 1 :])
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"lacks 9 tensors, model\.layers\.2"):
        convert_gguf(path, tmp_path / "out")
