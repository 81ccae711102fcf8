"""One kind of decoding step beside stock sampling, in the environment that it runs in.

Asked by `benchmarks.decoding_step`: a JSON request on the standard input, a JSON reply as the
last line. Only torch and what the kind needs are imported.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# SBW's functions without a compiler, as its own processor runs them where there is none.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor

Step = Callable[[Tensor], object]
_LAYERS, _GAMMA, _DELTA, _KEY = 30, 0.25, 2.0, 15485863


def _ours(name: str, ids: Tensor, vocabulary: int) -> Step:
    import numpy as np

    from watermark.config import preset
    from watermark.keys import SecretKey
    from watermark.marking import Marker
    from watermark.serving.rows import Rows, draw_tokens

    config = preset(name)
    keys = [SecretKey(bytes([i]) * 32) for i in range(len(ids))]
    if not config.scheme.takes_gumbel_winner:
        marker = Marker(config, keys)
        return lambda logits: marker(ids, logits)
    # Such a scheme replaces the draw: what is compared is the token, not the logits.
    bits = np.stack([config.source.key_of(key) for key in keys]).view(np.int64)
    rows = Rows(
        torch.from_numpy(bits), ids[:, -config.context_width :], torch.arange(len(ids)),
        torch.full((len(ids),), ids.shape[1]),
    )  # fmt: skip
    return lambda logits: draw_tokens(config, rows, logits)


def _transformers_kgw(name: str, ids: Tensor, vocabulary: int) -> Step:
    from transformers.generation.logits_process import WatermarkLogitsProcessor

    marker = WatermarkLogitsProcessor(vocabulary, "cpu", _GAMMA, _DELTA, _KEY, seeding_scheme=name)
    return lambda logits: marker(ids, logits)


def _transformers_synthid(name: str, ids: Tensor, vocabulary: int) -> Step:
    from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor

    marker = SynthIDTextWatermarkLogitsProcessor(
        ngram_len=5, keys=list(range(1, _LAYERS + 1)), sampling_table_size=2**16,
        sampling_table_seed=0, context_history_size=1024, device=torch.device("cpu"),
    )  # fmt: skip
    return lambda logits: marker(ids, logits)


def _synthid_text(name: str, ids: Tensor, vocabulary: int) -> Step:
    from synthid_text.logits_processing import SynthIDLogitsProcessor

    marker = SynthIDLogitsProcessor(
        ngram_len=5, keys=list(range(1, _LAYERS + 1)), context_history_size=1024,
        temperature=1.0, top_k=vocabulary, device=torch.device("cpu"),
        **_table(SynthIDLogitsProcessor),
    )  # fmt: skip
    return lambda logits: marker.watermarked_call(ids, logits)


def _table(kind: type) -> dict[str, int]:
    """Return what the released hash needs beside the keys."""
    import inspect

    wanted = inspect.signature(kind).parameters
    return {
        k: v
        for k, v in {"sampling_table_size": 2**16, "sampling_table_seed": 0}.items()
        if k in wanted
    }


def _sbw(name: str, ids: Tensor, vocabulary: int) -> Step:
    from sbw import batch

    scheme = {"lefthash": "gpu-fused-simple_4", "selfhash": "gpu-fused-selfhash"}[name]
    marker = batch.WatermarkBatch(
        list(range(vocabulary)), seeding_scheme=scheme, hash_key=_KEY, gamma=_GAMMA, delta=_DELTA
    )
    contexts = ids[:, -marker.context_width :]
    if name == "lefthash":
        return lambda logits: marker.apply_watermark_simple_fused(contexts, logits.clone())
    return lambda logits: marker.apply_watermark_selfsalt_fused(
        contexts, logits.clone(), num_candidates=0
    )


def _textseal(name: str, ids: Tensor, vocabulary: int) -> Step:
    import types
    from importlib.util import find_spec

    root = Path(find_spec("textseal").submodule_search_locations[0])  # type: ignore[union-attr, index]
    # Without their `__init__`, which would want a sentence encoder and more.
    for part in ("", ".common", ".common.watermark", ".posthoc"):
        package = types.ModuleType("textseal" + part)
        package.__path__ = [str(root.joinpath(*part.split(".")[1:]))]
        sys.modules["textseal" + part] = package
    from textseal.common.watermark.core import WatermarkConfig
    from textseal.posthoc import generator

    settings = types.SimpleNamespace(
        max_position_embeddings=4096, eos_token_id=0, pad_token_id=0, vocab_size=vocabulary,
        _name_or_path="",
    )  # fmt: skip
    kind, method = {
        "gumbelmax": (generator.GumbelmaxGenerator, "uniform"),
        "greenlist": (generator.GreenlistGenerator, "binary"),
    }[name]
    marker = kind(types.SimpleNamespace(config=settings), None, WatermarkConfig(7, 2, name, method))
    return lambda logits: marker.sample_next(logits, ids[:, -2:], temperature=1.0, top_p=1.0)


_MAKERS = {
    "ours": _ours, "transformers KGW": _transformers_kgw, "sbw": _sbw, "textseal": _textseal,
    "transformers SynthID": _transformers_synthid, "synthid-text": _synthid_text,
}  # fmt: skip


def _stock(logits: Tensor) -> object:
    return torch.multinomial(logits.softmax(dim=-1), 1)


def _seconds(work: Step, logits: Tensor) -> float:
    started = time.perf_counter()
    work(logits)
    return time.perf_counter() - started


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def _extra_memory(work: Step, logits: Tensor) -> int:
    """Return bytes that one step holds at most beside its input (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _status("VmRSS")
    kept = work(logits)
    del kept
    return max(_status("VmHWM") - before, 0)


def main() -> None:
    """Answer one request."""
    request: dict[str, Any] = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    n, vocabulary = request["batch"], request["vocabulary"]
    generator = torch.Generator().manual_seed(request["seed"])
    logits = torch.randn((n, vocabulary), generator=generator) * 3
    ids = torch.randint(0, vocabulary, (n, 16), generator=generator)
    with torch.no_grad():
        work = _MAKERS[request["kind"]](request["name"], ids, vocabulary)
        for job in (work, _stock):
            job(logits)
        memory = _extra_memory(work, logits)
        pairs: list[tuple[float, float]] = []
        started = time.perf_counter()
        while len(pairs) < request["rounds"] and (
            len(pairs) < 2 or time.perf_counter() - started < request["seconds"]
        ):
            pairs.append((_seconds(_stock, logits), _seconds(work, logits)))
    reply = {"pairs": pairs, "extra_bytes": memory, "logits_bytes": logits.nbytes}
    sys.stdout.write("\n" + json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
