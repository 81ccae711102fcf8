"""What vLLM gives to an adapter, without vLLM."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from watermark.config import WatermarkConfig
from watermark.keys import SecretKey
from watermark.serving.policy import KEY_ARGUMENT, Policy

__all__ = ["KEYS", "BatchUpdate", "Direction", "Params", "batch_context", "policy_of", "states_of"]

KEYS = {f"k{i}": SecretKey(bytes([i + 1]) * 32) for i in range(5)}


class Direction(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


@dataclass
class BatchUpdate:
    batch_size: int = 0
    removed: list[int] = field(default_factory=list)
    added: list[Any] = field(default_factory=list)
    moved: list[Any] = field(default_factory=list)


@dataclass
class Params:
    """The fields of SamplingParams that are read."""

    key: str | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None

    @property
    def extra_args(self) -> dict[str, object] | None:
        return None if self.key is None else {KEY_ARGUMENT: self.key}


def policy_of(config: WatermarkConfig, **more: Any) -> Policy:
    if config.reasoning is not None and not config.reasoning.is_marked:
        more = {"opt_out": "unmarked", **more}
    return Policy(config, KEYS, "k0", frozenset(KEYS), **more)


def _buffer(values: list[Any]) -> Any:
    tensor = torch.tensor(values, dtype=torch.int32)
    return SimpleNamespace(gpu=tensor, np=tensor.numpy())


def states_of(
    prompts: list[list[int]], responses: list[list[int]], vocabulary: int, width: int = 64
) -> Any:
    """Fill the slots of Model Runner V2, one request each."""
    rows = [p + r for p, r in zip(prompts, responses, strict=True)]
    return SimpleNamespace(
        device=torch.device("cpu"),
        max_num_reqs=len(rows),
        vocab_size=vocabulary,
        # Behind the tokens stands what an earlier request of the slot left.
        all_token_ids=_buffer([row + [1] * (width - len(row)) for row in rows]),
        prompt_len=_buffer([len(p) for p in prompts]),
        total_len=_buffer([len(row) for row in rows]),
    )


def batch_context(states: Any, slots: list[int], drafts: list[list[int]]) -> Any:
    """Lay a step out: every slot's last settled token, then its drafts."""
    expanded, local, fed, bounds = [], [], [], []
    for slot, drafted in zip(slots, drafts, strict=True):
        total = int(states.total_len.np[slot])
        expanded += [slot] * (len(drafted) + 1)
        local += range(len(drafted) + 1)
        fed += [int(states.all_token_ids.np[slot, total - 1]), *drafted]
        bounds.append(total + len(drafted))
    return SimpleNamespace(
        expanded_idx_mapping=torch.tensor(expanded, dtype=torch.int32),
        idx_mapping=torch.tensor(slots, dtype=torch.int32),
        idx_mapping_np=np.array(slots),
        expanded_local_pos=torch.tensor(local, dtype=torch.int32),
        input_ids=torch.tensor(fed, dtype=torch.int32),
        seq_lens_upper_bound_np=np.array(bounds),
    )
