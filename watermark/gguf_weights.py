"""Weights and config of a llama-architecture GGUF file, for transformers.

transformers can read GGUF too, but only with accelerate, and saves the result only by a detour.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray

from watermark.errors import ModelError

__all__ = ["llama_config", "llama_weights"]

_OUTSIDE: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def llama_config(path: Path) -> dict[str, Any]:
    """Read the model's shape.

    Args:
        path: GGUF file of a llama-architecture model.

    Returns:
        Keyword arguments of `transformers.LlamaConfig`.

    Raises:
        ModelError: another architecture.
    """
    fields = gguf.GGUFReader(path).fields

    def read(name: str) -> Any:
        return fields[name].contents()

    if read("general.architecture") != "llama":
        raise ModelError(
            f"{path.name} has the architecture {read('general.architecture')!r}; only llama can "
            "be converted. Convert it to safetensors with transformers"
        )
    return {
        "vocab_size": len(fields["tokenizer.ggml.tokens"].data),
        "hidden_size": read("llama.embedding_length"),
        "intermediate_size": read("llama.feed_forward_length"),
        "num_hidden_layers": read("llama.block_count"),
        "num_attention_heads": read("llama.attention.head_count"),
        "num_key_value_heads": read("llama.attention.head_count_kv"),
        "max_position_embeddings": read("llama.context_length"),
        "rms_norm_eps": read("llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": read("llama.rope.freq_base")},
        "tie_word_embeddings": "output.weight" not in {t.name for t in _tensors(path)},
        "bos_token_id": read("tokenizer.ggml.bos_token_id"),
        "eos_token_id": read("tokenizer.ggml.eos_token_id"),
        "pad_token_id": read("tokenizer.ggml.padding_token_id"),
    }


def llama_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Dequantise every tensor.

    Args:
        path: GGUF file of a llama-architecture model.

    Returns:
        float32 arrays by their transformers names.
    """
    config = llama_config(path)
    heads = {
        "attn_q": config["num_attention_heads"],
        "attn_k": config["num_key_value_heads"],
    }
    weights = {}
    for tensor in _tensors(path):
        name, part = _name(tensor.name)
        weight = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        weights[name] = _unpermuted(weight, heads[part]) if part in heads else weight
    return weights


def _tensors(path: Path) -> list[Any]:
    return list(gguf.GGUFReader(path).tensors)


def _name(name: str) -> tuple[str, str]:
    """Translate a tensor's name; also return which part of a layer it is."""
    if name in _OUTSIDE:
        return _OUTSIDE[name], ""
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if match is None or match[2] not in _IN_LAYER:
        raise ModelError(f"the GGUF file holds a tensor that is not known: {name}")
    return f"model.layers.{match[1]}.{_IN_LAYER[match[2]]}.weight", match[2]


def _unpermuted(weight: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Undo the row order that GGUF gives queries and keys for its kind of rotary embedding."""
    rows, columns = weight.shape
    halves = weight.reshape(n_heads, rows // n_heads // 2, 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
