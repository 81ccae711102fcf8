"""A real, tiny Llama in a folder, as a suspect or a teacher would lie on a disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

__all__ = ["write_model"]

TEMPLATE = (
    "{% for m in messages %}User: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)


def write_model(folder: Path, tokenizer_folder: Path, *, vocabulary: int, n_positions: int) -> Path:
    folder.mkdir()
    shutil.copy(tokenizer_folder / "tokenizer.json", folder)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=n_positions,
        eos_token_id=0,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # Random weights of the usual size give nearly flat distributions, in which an index that
        # is off by one would pass unseen.
        for weight in model.parameters():
            weight.mul_(4)
    model.save_pretrained(folder)
    return folder
