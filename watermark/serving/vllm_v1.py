"""vLLM's first model runner (V1): rows are requests, and the engine says how they move.

Where we stand in its sampler depends on the scheme. A drawing scheme calls itself argmax
invariant, so that it runs last of all: after grammar, penalties, bad words, temperature and min-p,
before top-k and top-p, which it applies itself. (It is no lie: such a scheme never meets a greedy
request.) A tilting scheme runs before the temperature and for greedy requests as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from watermark.errors import RequestError
from watermark.kernels.torch_entropy import has_entropy
from watermark.keys import Key
from watermark.serving.policy import Policy, RequestTerms
from watermark.serving.requests import MetContexts, Tally
from watermark.serving.rows import (
    BAD_ROW,
    Rows,
    force_drawn,
    tilt_logits,
)
from watermark.serving.truncation import Truncation, cutoffs, stack_truncations

__all__ = ["RunnerV1", "admitted_key", "coin_seed", "request_terms"]

_SEEDS = 1 << 63


@final
class _Request(NamedTuple):
    """A marked request in the batch; `response` is the engine's own list."""

    key: Tensor
    coin_seed: int
    truncation: Truncation
    temperature: float
    response: list[int]
    met: MetContexts

    def __repr__(self) -> str:
        return "_Request(key hidden)"


def request_terms(sampling_params: Any, unmarkable: str = "") -> RequestTerms:
    """Read what the policy needs from vLLM's SamplingParams, of either runner.

    Args:
        sampling_params: vLLM's.
        unmarkable: see `RequestTerms`.

    Returns:
        The terms.
    """
    return RequestTerms(
        sampling_params.extra_args or {},
        sampling_params.temperature < 1e-5,
        unmarkable,
        sampling_params.max_tokens,
    )


def admitted_key(policy: Policy, sampling_params: Any, tally: Tally) -> Key | None:
    """Ask the policy again which key marks a request that was admitted at the front.

    Args:
        policy: who is marked with which key.
        sampling_params: vLLM's.
        tally: counts a refusal, which only a policy that changed meanwhile can give.

    Returns:
        The key; None leaves the request unmarked.
    """
    try:
        return policy.rule(request_terms(sampling_params)).key
    except RequestError as error:
        tally.add("refused late", f"a request in the batch stays unmarked: {error}")
        return None


def coin_seed(sampling_params: Any, rng: np.random.Generator) -> int:
    """Take a request's own seed for its coins, or a random one."""
    seed = sampling_params.seed
    return int(rng.integers(_SEEDS)) if seed is None else int(seed) % _SEEDS


@final
class RunnerV1:
    """Marks the batches of the V1 runner.

    Args:
        policy: who is marked with which key.
        seed: the engine's; all ranks of a parallel engine must flip the same coins.
    """

    def __init__(self, policy: Policy, seed: int) -> None:
        self._policy, self._config = policy, policy.config
        self._draws = policy.config.scheme.always_samples
        self._rng = np.random.default_rng([seed, 0x6865_6972])
        self._rows: dict[int, _Request] = {}
        self.tally = Tally()

    @property
    def runs_last(self) -> bool:
        """What the engine is told as `is_argmax_invariant`."""
        return self._draws

    def update(self, batch_update: Any) -> None:
        """Follow the requests; see vLLM's `LogitsProcessor.update_state`.

        Args:
            batch_update: vLLM's BatchUpdate, or None where nothing has changed.
        """
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._rows.pop(index, None)
        for index, sampling_params, _, response in batch_update.added:
            self._put(index, self._request(sampling_params, response))
        for one, other, direction in batch_update.moved:
            moved, replaced = self._rows.pop(one, None), self._rows.pop(other, None)
            self._put(other, moved)
            if direction.name == "SWAP":
                self._put(one, replaced)

    def apply(self, logits: Tensor) -> Tensor:
        """Mark one step.

        Args:
            logits: float32, shape (B, V), changed in place.

        Returns:
            `logits`.
        """
        due = [(i, r) for i, r in sorted(self._rows.items()) if r.met.is_new(r.response)]
        if not due:
            return logits
        requests = [request for _, request in due]
        rows = Rows.gather(
            [r.key for r in requests],
            [r.response for r in requests],
            [r.coin_seed for r in requests],
            self._config.context_width,
        )
        index = torch.tensor([i for i, _ in due], device=logits.device)
        if not self._draws:
            temperatures = torch.tensor([r.temperature or 1.0 for r in requests])
            logits[index] = tilt_logits(
                self._config, rows, logits[index], temperatures.to(logits.device)
            )
            return logits
        least = None
        if not all(request.truncation.keeps_all for request in requests):
            least = cutoffs(logits, self._cut(requests, logits), index)
        if self._config.min_entropy:
            kept = has_entropy(logits[index], self._config.min_entropy, least)
            rows, index = rows.only(kept), index[kept]
            least = None if least is None else least[kept]
        if len(index):
            self._count_bad(force_drawn(self._config, rows, logits, index, least))
        return logits

    def _request(self, sampling_params: Any, response: list[int]) -> _Request | None:
        key = admitted_key(self._policy, sampling_params, self.tally)
        if key is None:
            return None
        return _Request(
            torch.from_numpy(self._config.source.key_of(key).view(np.int64)),
            coin_seed(sampling_params, self._rng),
            # The engine has applied min-p before us.
            Truncation(sampling_params.top_k, sampling_params.top_p),
            0.0 if sampling_params.temperature < 1e-5 else sampling_params.temperature,
            response,
            MetContexts(self._config),
        )

    def _put(self, index: int, request: _Request | None) -> None:
        if request is None:
            self._rows.pop(index, None)
        else:
            self._rows[index] = request

    @staticmethod
    def _cut(requests: Iterable[_Request], logits: Tensor) -> Tensor:
        truncations = [request.truncation for request in requests]
        return stack_truncations(truncations, logits.shape[1], logits.device)

    def _count_bad(self, tokens: Tensor) -> None:
        if tokens.device.type == "cpu":
            n_bad = int((tokens == BAD_ROW).sum())
            if n_bad:
                self.tally.add("bad logits", "logits without a largest number stay unmarked", n_bad)
