"""Are the bits of the Triton kernels right on an accelerator? The checks of `benchmarks.gpu_step`.

The kernels are compared with the frozen vectors, with torch and with the schemes' own definitions,
run where a wait for the accelerator is an error, and captured in a CUDA graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_batches import DEVICE, LAYERS, OTHER, RED_GREEN, WIDE, Step
from watermark.kernels import torch_prf, triton_prf
from watermark.kernels.triton_tilt import TiltTiling, tilt_green
from watermark.kernels.triton_tournament import TournamentTiling, play_tournament
from watermark.kernels.triton_winners import Tiling, gumbel_winners
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.tournament import Tournament

__all__ = ["checks"]

VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "prf_heirmark_1.json"


def _check_words() -> str:
    frozen = json.loads(VECTORS.read_text(encoding="utf-8"))
    key = torch.tensor([[torch_prf.signed(int(k)) for k in frozen["sip_key"]]], device=DEVICE)
    for row in frozen["rows"]:
        context = torch.tensor([row["context"]], dtype=torch.int64, device=DEVICE).reshape(1, -1)
        found = triton_prf.words(
            triton_prf.context_hashes(key, context),
            torch.tensor([row["tokens"]], device=DEVICE),
            torch.tensor([row["stream"]], device=DEVICE),
        )
        assert found[0].tolist() == row["words"], row["context"]
    n = 0
    for h in (0, 1, 2, 3, 4, 7, 16):
        step = Step(37, WIDE, torch.float32, h, h)
        words = step.torch_words(step.logits)
        ids = torch.arange(WIDE, device=DEVICE).expand_as(words)
        assert torch.equal(triton_prf.words(step.hashes(), ids, step.streams), words), h
        n += words.numel()
    return f"frozen vectors, and {n} words of torch"


def _check_winners(dtype: torch.dtype) -> str:
    n = 0
    for seed, (vocabulary, spread) in enumerate(
        [(WIDE, 1.0), (WIDE, 0.02), (OTHER, 4.0), (50_257, 100.0), (1_003, 1.0)]
    ):
        step = Step(64, vocabulary, dtype, seed)
        logits = step.logits * spread
        logits[:16] = logits[:16].round()
        logits[16:32] += 3000
        hide = torch.rand(logits[32:48].shape, device=DEVICE) < 0.999
        hide[:, 7] = False
        logits[32:48] = logits[32:48].masked_fill(hide, -torch.inf)
        words = step.torch_words(logits)
        expected = Gumbel().embed(logits.float(), words).isfinite().int().argmax(dim=1)
        for tiling in (None, Tiling(1024, 8), Tiling(512, 16), Tiling(1024, 8, 4, True)):
            found = gumbel_winners(step.hashes(), step.streams, logits, tiling=tiling)
            wrong = int((found != expected).sum())
            assert not wrong, f"{wrong} of 64 winners differ: {vocabulary}, {spread}, {tiling}"
            n += 64
        least = logits.float().amax(dim=1) - 3.0
        cut = logits.float().masked_fill(logits.float() < least[:, None], -torch.inf)
        expected = Gumbel().embed(cut, words).isfinite().int().argmax(dim=1)
        found = gumbel_winners(step.hashes(), step.streams, logits, None, least)
        assert torch.equal(found, expected), "with a cut-off"
    _check_bad_rows(dtype)
    return f"{n} winners, and as many with a cut-off"


def _check_bad_rows(dtype: torch.dtype) -> None:
    step = Step(4, 5_000, dtype, 0)
    logits = torch.cat([step.logits, step.logits])
    logits[1, 3], logits[3, 3], logits[5] = torch.nan, torch.inf, -torch.inf
    rows = torch.tensor([1, 3, 5, 6], device=DEVICE)
    before = logits.clone()
    found = gumbel_winners(step.hashes(), step.streams, logits, rows, forces=True)
    assert found[:3].tolist() == [-1] * 3, found
    left = torch.tensor([0, 1, 2, 3, 4, 5, 7], device=DEVICE)
    assert torch.equal(logits[left].nan_to_num(), before[left].nan_to_num()), "rows of others"
    assert logits[6].isfinite().nonzero().flatten().tolist() == [int(found[3])]


def _check_tilt(dtype: torch.dtype) -> str:
    for vocabulary in (WIDE, 1_003):
        step = Step(16, vocabulary, dtype, 3)
        step.logits[3, 5:900] = -torch.inf
        words = step.torch_words(step.logits)
        expected = RED_GREEN.embed(step.logits.float(), words).to(dtype)
        for tiling in (TiltTiling(), TiltTiling(2048, 4, True)):
            found = tilt_green(
                step.hashes(),
                step.streams,
                step.logits.clone(),
                RED_GREEN.first_red,
                2.0,
                tiling=tiling,
            )
            assert torch.equal(found, expected), (vocabulary, tiling)
    return "every logit equal"


def _check_tournament(dtype: torch.dtype) -> dict[str, float]:
    distances = []
    for vocabulary, layers in ((WIDE, LAYERS), (1_003, 32))[: 2 if dtype == torch.float32 else 1]:
        step = Step(16, vocabulary, dtype, layers)
        step.logits[3, 5:900] = -torch.inf
        words = step.torch_words(step.logits)
        expected = Tournament(layers).embed(step.logits.double(), words).exp()
        for tiling in (None, TournamentTiling(512, 16)):
            marked = play_tournament(
                step.hashes(), step.streams, step.logits.clone(), layers, tiling=tiling
            )
            distance = (marked.double().exp() - expected).abs().sum(dim=1).max() / 2
            distances.append(float(distance))
    limit = 1e-5 if dtype == torch.float32 else 1e-2
    assert max(distances) < limit, distances
    return {"largest_total_variation_distance": max(distances)}


def _marks(step: Step, logits: Tensor) -> dict[str, Callable[[], Tensor]]:
    return {
        "gumbel": lambda: gumbel_winners(step.hashes(), step.streams, logits),
        "red-green": lambda: tilt_green(
            step.hashes(), step.streams, logits, RED_GREEN.first_red, 2.0
        ),
        "tournament": lambda: play_tournament(step.hashes(), step.streams, logits, LAYERS),
    }


def _check_capture(name: str, dtype: torch.dtype) -> str:
    """Capture, change every input in place, replay, and compare with a plain call."""
    step, other = Step(32, WIDE, dtype, 1), Step(32, WIDE, dtype, 2)
    logits = step.logits.clone()
    mark = _marks(step, logits)[name]
    mark()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mark()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = mark()
    for own, its in (
        (logits, other.logits), (step.keys, other.keys), (step.contexts, other.contexts),
        (step.streams, other.streams),
    ):  # fmt: skip
        own.copy_(its)
    graph.replay()
    torch.cuda.synchronize()
    expected = _marks(other, other.logits.clone())[name]()
    assert torch.equal(out, expected), "the replay differs"
    return "no wait, captured, replayed on other inputs"


def checks() -> dict[str, Callable[[], Any]]:
    """List the checks."""
    jobs: dict[str, Callable[[], Any]] = {"words": _check_words}
    for dtype in (torch.float32, torch.bfloat16):
        short = str(dtype).removeprefix("torch.")
        jobs[f"gumbel {short}"] = partial(_check_winners, dtype)
        jobs[f"red-green {short}"] = partial(_check_tilt, dtype)
        jobs[f"tournament {short}"] = partial(_check_tournament, dtype)
    for name in ("gumbel", "red-green", "tournament"):
        jobs[f"graph {name}"] = partial(_check_capture, name, torch.float32)
    return jobs
