"""vLLM's Model Runner V2: rows are positions, several for a request that speculates.

The history of tokens lives on the device, and so does everything here: nothing waits for the
accelerator. We run before temperature, min-p, top-k and top-p; a drawing scheme therefore applies
all four itself, and what the engine applies later finds a single token left.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from watermark.due_rows import due_rows
from watermark.kernels.torch_entropy import has_entropy
from watermark.serving.policy import Policy
from watermark.serving.requests import Tally
from watermark.serving.rows import Rows, draw_tokens, tilt_logits
from watermark.serving.truncation import Truncation, cutoffs, stack_truncations
from watermark.serving.vllm_v1 import admitted_key, coin_seed

__all__ = ["RunnerV2"]


@final
class RunnerV2:
    """Marks the batches of Model Runner V2.

    Args:
        policy: who is marked with which key.
        seed: the engine's; all ranks of a parallel engine must flip the same coins.
        states: vLLM's LogitsProcRequestState.
    """

    def __init__(self, policy: Policy, seed: int, states: Any) -> None:
        self._policy, self._config, self._states = policy, policy.config, states
        self._rng = np.random.default_rng([seed, 0x6865_6972])
        n = states.max_num_reqs
        # One line a slot: key integers, then the coins' seed.
        self._slots: NDArray[np.int64] = np.zeros(
            (n, policy.config.source.n_key_integers + 1), np.int64
        )
        self._is_marked = np.zeros(n, np.bool_)
        # k, top-p, min-p as `stack_truncations` gives them, then the temperature.
        self._sampling = np.ones((n, 4))
        self._is_changed = True
        self._on_device: tuple[Tensor, Tensor, Tensor] | None = None
        self.tally = Tally()

    def add_request(self, slot: int, sampling_params: Any) -> bool:
        """Take a request into a slot; see vLLM's `LogitsProcessor.add_request`.

        Args:
            slot: which; whatever was there is forgotten.
            sampling_params: vLLM's.

        Returns:
            True if it is marked.
        """
        key = admitted_key(self._policy, sampling_params, self.tally)
        self._is_changed = True
        self._is_marked[slot] = key is not None
        self._slots[slot] = 0
        if key is None:
            return False
        self._slots[slot, :-1] = self._config.source.key_of(key).view(np.int64)
        self._slots[slot, -1] = coin_seed(sampling_params, self._rng)
        cut = Truncation(sampling_params.top_k, sampling_params.top_p, sampling_params.min_p)
        self._sampling[slot, :3] = stack_truncations([cut], self._states.vocab_size)[0].numpy()
        greedy = sampling_params.temperature < 1e-5
        self._sampling[slot, 3] = 1.0 if greedy else sampling_params.temperature
        return True

    def apply_staged_writes(self) -> None:
        """Bring what has changed to the device, once a step."""
        if self._is_changed or self._on_device is None:
            device = self._states.device
            # Copies: the host goes on writing while the device still reads.
            self._on_device = (
                torch.from_numpy(self._slots.copy()).to(device),
                torch.from_numpy(self._is_marked.copy()).to(device),
                torch.from_numpy(self._sampling.copy()).to(device),
            )
            self._is_changed = False

    def apply(self, logits: Tensor, context: Any) -> Tensor:
        """Mark one step.

        Args:
            logits: float32, shape (N, V), N rows of the step, temperature not yet applied.
            context: vLLM's LogitsContext.

        Returns:
            float32, shape (N, V).
        """
        slots_np = context.idx_mapping_np[context.idx_mapping_np >= 0]
        ours = slots_np[self._is_marked[slots_np]]
        if not len(ours):
            return logits
        self.apply_staged_writes()
        assert self._on_device is not None
        table, is_marked, sampling = self._on_device
        slots = context.expanded_idx_mapping.long().clamp(min=0)
        is_due, contexts, positions = self._due(context, slots)
        is_due &= is_marked[slots] & (context.expanded_idx_mapping >= 0)
        rows = Rows(table[slots, :-1], contexts, table[slots, -1], positions)
        temperature = sampling[slots, 3].float()
        if not self._config.scheme.always_samples:
            tilted = tilt_logits(self._config, rows, logits, temperature)
            return torch.where(is_due[:, None], tilted, logits)
        cuts = (self._sampling[ours, :3] != (logits.shape[1], 1.0, 0.0)).any()
        cut = sampling[slots, :3] if cuts else None
        return self._forced(logits / temperature[:, None], logits, rows, is_due, cut)

    def _forced(
        self, scaled: Tensor, logits: Tensor, rows: Rows, is_due: Tensor, cut: Tensor | None
    ) -> Tensor:
        least = None if cut is None else cutoffs(scaled, cut)
        tokens = draw_tokens(self._config, rows, scaled, least)
        is_due = is_due & (tokens >= 0)
        if self._config.min_entropy:
            is_due &= has_entropy(scaled, self._config.min_entropy, least)
        # Without an index of rows, which would have to be counted first.
        vocabulary = torch.arange(logits.shape[1], device=logits.device)
        loses = is_due[:, None] & (vocabulary != tokens[:, None])
        return logits.masked_fill(loses, -torch.inf)

    def _due(self, context: Any, slots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the rows with a context of their own, their contexts and positions."""
        history, n = self._history(context, slots)
        is_due, contexts = due_rows(self._config, history, n)
        # What is not due is hashed as well, and must be ids.
        return is_due, contexts.clamp(min=0), n

    def _history(self, context: Any, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Collect the response of each row: what is settled, then this step's drafts.

        Returns:
            int64, shape (N, L), response tokens with anything behind them, and int64, shape
            (N,), how many they are.
        """
        states, device = self._states, slots.device
        prompt = states.prompt_len.gpu[slots].long()
        settled = states.total_len.gpu[slots].long() - prompt
        local = context.expanded_local_pos.long()
        n = settled + local
        width = self._longest(context)
        ids = torch.arange(width, device=device)
        stored = states.all_token_ids.gpu
        places = (prompt[:, None] + ids).clamp(max=stored.shape[1] - 1)
        history = stored[slots[:, None], places].long()
        # Of a request's rows the first is fed the last settled token, the others its drafts.
        row = torch.arange(len(slots), device=device)
        drafts = (row - local)[:, None] + (ids - settled[:, None]) + 1
        drafted = context.input_ids.long()[drafts.clamp(0, len(slots) - 1)]
        return torch.where(ids < settled[:, None], history, drafted), n

    def _longest(self, context: Any) -> int:
        slots = context.idx_mapping_np
        prompts = np.where(slots >= 0, self._states.prompt_len.np[np.maximum(slots, 0)], 0)
        bounds = context.seq_lens_upper_bound_np[: len(slots)]
        return max(int((bounds - prompts).max(initial=0)), self._config.context_width, 1)
