"""A GGUF file becomes a safetensors folder, with its tokenizer and chat template.

Nothing of the file is run: it holds numbers, tokens, and a template that transformers renders in
a sandbox.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from watermark.errors import MissingExtraError, ModelError

__all__ = ["convert_gguf"]


def convert_gguf(path: Path, folder: Path) -> None:
    """Write a GGUF file as an fp32 safetensors folder.

    Args:
        path: the file; llama is read by our own code, other architectures by transformers.
        folder: an empty folder.

    Raises:
        MissingExtraError: the packages for it are not installed.
        ModelError: damaged, in several parts, or of an architecture that nobody here can read.
    """
    try:
        from watermark.gguf.weights import gguf_architecture

        tokenizer = _tokenizer(path)
        if gguf_architecture(path) == "llama":
            _convert_llama(path, tokenizer, folder)
        else:
            _convert_other(path, tokenizer, folder)
    except ImportError as error:
        raise MissingExtraError(error.name or "accelerate", "hf") from None
    except ModelError:
        raise
    except Exception as error:
        # gguf and transformers raise whatever a damaged file makes of their code.
        raise ModelError(
            f"{path} cannot be converted ({type(error).__name__}: {str(error)[:200]}); give an "
            "intact GGUF file, or the model as a safetensors folder"
        ) from None


def _tokenizer(path: Path) -> Any:
    """Rebuild the tokenizer; what else lies in the file's folder is not looked at."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as alone:
        (Path(alone) / "model.gguf").symlink_to(path.resolve())
        return AutoTokenizer.from_pretrained(
            alone, gguf_file="model.gguf", trust_remote_code=False, local_files_only=True
        )


def _convert_llama(path: Path, tokenizer: Any, folder: Path) -> None:
    from safetensors.numpy import save_file
    from transformers import LlamaConfig

    from watermark.gguf.weights import llama_config, llama_weights

    settings = llama_config(path)
    _save_tokenizer(tokenizer, settings, folder)
    config = LlamaConfig(**settings, architectures=["LlamaForCausalLM"], dtype="float32")
    config.save_pretrained(folder)
    save_file(llama_weights(path), folder / "model.safetensors", metadata={"format": "pt"})


def _convert_other(path: Path, tokenizer: Any, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as alone:
        (Path(alone) / "model.gguf").symlink_to(path.resolve())
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            alone,
            gguf_file="model.gguf",
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    model, loading = loaded
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(
            f"{path} lacks {len(missing)} tensors of its model, {missing[0]} for one; a file in "
            "several parts must be merged first"
        )
    config = model.config
    _save_tokenizer(tokenizer, config.to_dict(), folder)
    config.architectures, config.dtype = [type(model).__name__], "float32"
    # save_pretrained refuses what was read from GGUF, although nothing is quantised any more.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(folder)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    state = {k: v.contiguous() for k, v in model.state_dict().items() if k not in tied}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _save_tokenizer(tokenizer: Any, settings: dict[str, Any], folder: Path) -> None:
    # Some transformers versions guess both wrong.
    ends = settings.get("eos_token_id")
    end = ends[0] if isinstance(ends, list) else ends
    if end is not None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
        padding = settings.get("pad_token_id")
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end if padding is None else padding)
    tokenizer.save_pretrained(folder)
