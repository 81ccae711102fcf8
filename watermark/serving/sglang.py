"""SGLang: a custom logit processor that marks as the server's policy orders.

    export HEIRMARK_POLICY=policy.json
    python -m sglang.launch_server --model-path MODEL --enable-custom-logit-processor \
        --disable-overlap-schedule

SGLang takes the processor itself from the request, as `HeirmarkLogitProcessor.to_str()`, and with
it anything else that a client may send to be run. So the server stands behind a gateway that sets
`custom_logit_processor` and `custom_params` and drops what clients put there
(`watermark.serving.litellm`). A request without the processor is not seen here at all.

An error in a processor ends the server. What is refused is therefore aborted, request by request.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from sglang.srt.sampling.custom_logit_processor import CustomLogitProcessor
from torch import Tensor

from watermark.errors import ConfigError, RequestError, WatermarkError
from watermark.kernels.torch_entropy import has_entropy
from watermark.serving.metrics import count_request
from watermark.serving.policy import Policy, RequestTerms, current_policy
from watermark.serving.requests import MetContexts, Tally
from watermark.serving.rows import BAD_ROW, Rows, force_drawn, tilt_logits
from watermark.serving.truncation import Truncation, cutoffs, stack_truncations

__all__ = ["HeirmarkLogitProcessor", "mark_rows", "refuse_engine"]

_LOGGER: Final = logging.getLogger(__name__)
_REQUEST: Final = "__req__"
# On SGLang's own request object, so that it goes when the request goes.
_STATE: Final = "_heirmark_request"
_TALLY: Final = Tally()


@final
class _Request(NamedTuple):
    """What is kept of a marked request between two steps."""

    key: Tensor
    coin_seed: int
    met: MetContexts

    def __repr__(self) -> str:
        return "_Request(key hidden)"


@final
class HeirmarkLogitProcessor(CustomLogitProcessor):  # type: ignore[misc]
    """Marks the rows of one step; SGLang makes it anew for every batch, without arguments."""

    def __call__(
        self, logits: Tensor, custom_param_list: list[dict[str, Any] | None] | None = None
    ) -> Tensor:
        """Mark one step.

        Args:
            logits: float, shape (N, V): the rows of the requests that named this processor, after
                grammar and penalties, before temperature.
            custom_param_list: their custom_params, with SGLang's request under "__req__".

        Returns:
            float, shape (N, V).
        """
        requests = [(params or {}).get(_REQUEST) for params in custom_param_list or ()]
        requests += [None] * (len(logits) - len(requests))
        try:
            policy, reason = current_policy(), refuse_engine()
        except WatermarkError:
            _LOGGER.exception("heirmark: the serving policy cannot be used")
            policy, reason = None, "this server's watermark is not set up"
        if reason or policy is None:
            for request in requests:
                _refuse(request, reason)
            return _without_unknown(logits, requests)
        return mark_rows(policy, logits, requests)


def refuse_engine() -> str:
    """Say why the engine's way to run cannot be marked, or nothing."""
    from sglang.srt.runtime_context import get_schedule, get_spec

    if get_spec().speculative_algorithm is not None:
        return "speculative decoding does not show its drafts to the watermark; switch it off"
    if not get_schedule().disable_overlap_schedule:
        return (
            "with overlapped scheduling the newest token is not known when the next is marked; "
            "start the server with --disable-overlap-schedule"
        )
    return ""


def mark_rows(policy: Policy, logits: Tensor, requests: Sequence[Any]) -> Tensor:
    """Mark the rows of requests.

    Args:
        policy: who is marked with which key.
        logits: float, shape (N, V).
        requests: SGLang's request objects, one for each row; None where SGLang gave none.

    Returns:
        float32, shape (N, V).
    """
    logits = _without_unknown(logits.float(), requests)
    try:
        policy.config.check_vocabulary(logits.shape[1])
    except ConfigError as error:
        for request in requests:
            _refuse(request, str(error))
        return logits
    due = []
    for row, request in enumerate(requests):
        state = None if request is None else _state(policy, request)
        if state is not None and state.met.is_new(list(request.output_ids)):
            due.append((row, request, state))
    if not due:
        return logits
    index = torch.tensor([row for row, _, _ in due], device=logits.device)
    return _marked(policy, logits, index, due)


def _marked(
    policy: Policy, logits: Tensor, index: Tensor, due: Sequence[tuple[int, Any, _Request]]
) -> Tensor:
    config = policy.config
    rows = Rows.gather(
        [state.key for _, _, state in due],
        [list(request.output_ids) for _, request, _ in due],
        [state.coin_seed for _, _, state in due],
        config.context_width,
    )
    params = [request.sampling_params for _, request, _ in due]
    temperatures = torch.tensor([p.temperature for p in params], device=logits.device)
    if not config.scheme.always_samples:
        # SGLang divides greedy requests by 1.
        logits[index] = tilt_logits(config, rows, logits[index], temperatures)
        return logits
    scaled = logits[index] / temperatures[:, None]
    least = _least(scaled, params)
    if config.min_entropy:
        kept = has_entropy(scaled, config.min_entropy, least)
        rows, index, scaled, least = rows.only(kept), index[kept], scaled[kept], least[kept]
    if not len(index):
        return logits
    every = torch.arange(len(index), device=logits.device)
    tokens = force_drawn(config, rows, scaled, every, least)
    good = tokens != BAD_ROW
    logits[index[good]] = scaled[good]
    if n_bad := int((~good).sum()):
        _TALLY.add("bad logits", "logits without a largest number stay unmarked", n_bad)
    return logits


def _least(scaled: Tensor, params: Sequence[Any]) -> Tensor:
    """Find what SGLang would leave: each of its cuts is made on the whole distribution."""
    top_k = [Truncation(p.top_k, 1.0, p.min_p) for p in params]
    top_p = [Truncation(0, p.top_p) for p in params]
    width, device = scaled.shape[1], scaled.device
    usable = torch.isfinite(scaled.amax(dim=1))[:, None]
    scaled = torch.where(usable, scaled, 0.0)
    return torch.maximum(
        cutoffs(scaled, stack_truncations(top_k, width, device)),
        cutoffs(scaled, stack_truncations(top_p, width, device)),
    )


def _state(policy: Policy, request: Any) -> _Request | None:
    if hasattr(request, _STATE):
        state: _Request | None = getattr(request, _STATE)
        return state
    state = None
    try:
        ruling = policy.rule(_terms(request.sampling_params))
    except RequestError as error:
        _refuse(request, str(error))
        return None
    count_request(ruling.status)
    if ruling.key is not None:
        state = _Request(
            torch.from_numpy(policy.config.source.key_of(ruling.key).view(np.int64)),
            _coin_seed(request),
            MetContexts(policy.config),
        )
    setattr(request, _STATE, state)
    return state


def _terms(params: Any) -> RequestTerms:
    arguments: Mapping[str, object] = params.custom_params or {}
    unmarkable = ""
    if (getattr(params, "beam_width", None) or 1) > 1:
        unmarkable = "beam search cannot be marked; leave beam_width out"
    if getattr(params, "watermark", None) is not None:
        raise RequestError(
            'the field "watermark" belongs to SGLang\'s own watermark, which this server does not '
            "use; leave it out"
        )
    # SGLang has turned temperature 0 into top-k 1.
    return RequestTerms(arguments, params.top_k == 1, unmarkable, params.max_new_tokens)


def _coin_seed(request: Any) -> int:
    """Return the same number on all ranks of a parallel engine."""
    seed = getattr(request.sampling_params, "sampling_seed", None)
    if seed is not None:
        return int(seed) % (1 << 63)
    return int.from_bytes(hashlib.sha256(str(request.rid).encode()).digest()[:8]) >> 1


def _refuse(request: Any, reason: str) -> None:
    """Have SGLang answer a request with HTTP 400, after the token that it is about to draw."""
    if request is None or getattr(request, "to_finish", None) is not None:
        return
    from sglang.srt.managers.schedule_batch import FINISH_ABORT

    count_request("refused")
    _TALLY.add("refused", "requests are refused")
    request.to_finish = FINISH_ABORT(reason, 400, "BadRequestError")


def _without_unknown(logits: Tensor, requests: Sequence[Any]) -> Tensor:
    """Answer with nothing but token 0 where a request came without custom_params.

    SGLang then gives no request that could be refused, and its text would be unmarked.
    """
    unknown = [row for row, request in enumerate(requests) if request is None]
    if unknown:
        _TALLY.add(
            "unknown", "requests without custom_params are answered with token 0", len(unknown)
        )
        logits = logits.clone()
        logits[unknown] = -torch.inf
        logits[unknown, 0] = 0.0
    return logits
