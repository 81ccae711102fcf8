"""A real, tiny Llama in a folder, as a suspect or a teacher would lie on a disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM

__all__ = ["write_gguf", "write_model"]

TEMPLATE = (
    "{% for m in messages %}User: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)


def write_model(
    folder: Path,
    tokenizer_folder: Path,
    *,
    vocabulary: int,
    n_positions: int,
    architecture: str = "llama",
) -> Path:
    folder.mkdir()
    shutil.copy(tokenizer_folder / "tokenizer.json", folder)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=n_positions,
        eos_token_id=0,
        bos_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        # Random weights of the usual size give nearly flat distributions, in which an index that
        # is off by one would pass unseen.
        for weight in model.parameters():
            weight.mul_(4)
        for name, bias in model.named_parameters():
            if name.endswith(".bias"):
                bias.normal_(std=0.1)
    model.save_pretrained(folder)
    return folder


def write_gguf(folder: Path, path: Path) -> Path:
    """Write a model of `write_model` as llama.cpp's converter would."""
    import gguf

    config = json.loads((folder / "config.json").read_text())
    architecture = config["model_type"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], 9)
    for name, weight in load_file(folder / "model.safetensors").items():
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
        part = name.split(".")[-2]
        if architecture == "llama" and part in heads:
            weight = _permuted(weight, config[heads[part]])
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    special = {token["content"] for token in content["added_tokens"]}
    tokens = sorted(vocabulary, key=lambda token: int(vocabulary[token]))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    # llama.cpp: 1 is a normal token, 3 a control token.
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_eos_token_id(vocabulary["<|end|>"])
    writer.add_chat_template(TEMPLATE)


def _permuted(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """llama.cpp's order of rows: its convert_hf_to_gguf.py, LlamaModel.permute."""
    rows, columns = weight.shape
    halves = weight.reshape(n_heads, 2, rows // n_heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
