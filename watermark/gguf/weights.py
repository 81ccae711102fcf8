"""Weights and config of a llama-architecture GGUF file, for transformers.

transformers can read GGUF too, but only with accelerate, and saves the result only by a detour.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray

from watermark.errors import ModelError

__all__ = ["gguf_architecture", "llama_config", "llama_weights"]

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
_END_OF_TURN: Final = "tokenizer.ggml.eot_token_id"


def gguf_architecture(path: Path) -> str:
    """Read which kind of model a GGUF file holds."""
    return str(gguf.GGUFReader(path).fields["general.architecture"].contents())


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

    def read(name: str, default: Any = None) -> Any:
        return fields[name].contents() if name in fields else default

    if read("general.architecture") != "llama":
        raise ModelError(
            f"{path.name} has the architecture {read('general.architecture')!r}, not llama"
        )
    if read("llama.rope.scaling.type", "none") != "none":
        raise ModelError(
            f"{path.name} stretches its positions (rope scaling), which is not read from GGUF; "
            "give the model as a safetensors folder"
        )
    heads = read("llama.attention.head_count")
    return {
        "vocab_size": len(fields["tokenizer.ggml.tokens"].data),
        "hidden_size": read("llama.embedding_length"),
        "intermediate_size": read("llama.feed_forward_length"),
        "num_hidden_layers": read("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": read("llama.attention.head_count_kv", heads),
        "max_position_embeddings": read("llama.context_length"),
        "rms_norm_eps": read("llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": read("llama.rope.freq_base", 10_000.0),
        },
        "tie_word_embeddings": "output.weight" not in {t.name for t in _tensors(path)},
        "bos_token_id": read("tokenizer.ggml.bos_token_id"),
        "eos_token_id": _ends(read("tokenizer.ggml.eos_token_id"), read(_END_OF_TURN)),
        "pad_token_id": read("tokenizer.ggml.padding_token_id"),
    }


def _ends(end: int | None, end_of_turn: int | None) -> int | list[int] | None:
    """What ends an answer: some models have a token for the text's end and one for the turn's."""
    both = [i for i in dict.fromkeys((end_of_turn, end)) if i is not None]
    return both if len(both) > 1 else (both[0] if both else None)


def llama_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Dequantise every tensor.

    Args:
        path: GGUF file of a llama-architecture model.

    Returns:
        float32 arrays by their transformers names.

    Raises:
        ModelError: a tensor that is not known, or that is missing.
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
    _check_complete(path, weights.keys(), config)
    return weights


def _check_complete(path: Path, names: Collection[str], config: dict[str, Any]) -> None:
    # What is missing would be filled with random numbers by transformers.
    expected = {_OUTSIDE[name] for name in ("token_embd.weight", "output_norm.weight")}
    for layer in range(config["num_hidden_layers"]):
        expected |= {f"model.layers.{layer}.{part}.weight" for part in _IN_LAYER.values()}
    if missing := sorted(expected.difference(names)):
        raise ModelError(
            f"{path.name} lacks {len(missing)} tensors, {missing[0]} for one; a file in several "
            "parts must be merged first"
        )


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
