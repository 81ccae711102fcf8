"""vLLM: one class that either model runner accepts, loaded by name and never by itself.

    export HEIRMARK_POLICY=policy.json
    vllm serve MODEL --logits-processors watermark.serving.vllm:HeirmarkLogitsProcessor

There is no entry point: vLLM loads every plugin that is installed, wanted or not, and a server
that wants none of us must start as before.
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any, Final, final

from watermark.errors import ConfigError, RequestError, WatermarkError
from watermark.serving.policy import OPT_OUT_ARGUMENT, Policy, current_policy
from watermark.tokens import check_fingerprint, load_tokenizer

__all__ = ["HeirmarkLogitsProcessor"]

_LOGGER: Final = logging.getLogger(__name__)
_MODULES: Final = (
    "vllm.v1.sample.logits_processor",
    "vllm.v1.worker.gpu.sample.logits_processor",
)


def _bases() -> tuple[type, ...]:
    """Return the interfaces of the runners that this vLLM has."""
    found, first_error = [], None
    for name in _MODULES:
        try:
            found.append(import_module(name).LogitsProcessor)
        except ImportError as error:
            first_error = first_error or error
    if not found and first_error is not None:
        raise first_error
    return tuple(found)


@final
class HeirmarkLogitsProcessor(*_bases()):  # type: ignore[misc]
    """Marks what vLLM says, as the policy orders; see `watermark.serving.policy`.

    Both runners make it and call it by their own interfaces. The V1 runner gives a device and a
    flag, Model Runner V2 the state of its requests.
    """

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse at the front what must not be answered unmarked.

        Args:
            sampling_params: vLLM's SamplingParams of one request.

        Raises:
            RequestError: a ValueError, which the server answers with HTTP 400.
        """
        from watermark.serving.metrics import count_request
        from watermark.serving.vllm_v1 import request_terms

        try:
            terms = request_terms(sampling_params, _unmarkable(sampling_params))
            ruling = current_policy().rule(terms)
        except RequestError:
            count_request("refused")
            raise
        except WatermarkError as error:
            # The worker has stopped the server by now if it was so from the start.
            _LOGGER.exception("heirmark: the serving policy cannot be used")
            raise RequestError("this server's watermark is not set up") from error
        count_request(ruling.status)

    def __init__(
        self, vllm_config: Any, device_or_states: Any, is_pin_memory: bool | None = None
    ) -> None:
        policy, seed = current_policy(), vllm_config.model_config.seed or 0
        _check_engine(vllm_config, policy)
        self._v1: Any = None
        self._v2: Any = None
        if is_pin_memory is None:
            from watermark.serving.vllm_v2 import RunnerV2

            self._v2 = RunnerV2(policy, seed, device_or_states)
        else:
            from watermark.serving.vllm_v1 import RunnerV1

            self._v1 = RunnerV1(policy, seed)
        if str(getattr(device_or_states, "device", device_or_states)) == "cpu":
            from watermark.serving.rows import warm_up

            warm_up(policy.config, vllm_config.model_config.get_vocab_size())
        _LOGGER.info("heirmark: %s marks with %d keys", policy.config.scheme.name, len(policy.keys))
        if policy.config.leaves:
            _LOGGER.warning("heirmark: the config leaves %s unmarked", policy.config.leaves)

    def is_argmax_invariant(self) -> bool:
        """Tell the V1 runner whether to call us last of all and never for greedy requests."""
        return bool(self._v1.runs_last)

    def update_state(self, batch_update: Any) -> None:
        """Follow the batch of the V1 runner."""
        self._v1.update(batch_update)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Take a request of Model Runner V2; True if it is marked."""
        return bool(self._v2.add_request(req_idx, sampling_params))

    def apply_staged_writes(self) -> None:
        """Bring what has changed to the device of Model Runner V2."""
        self._v2.apply_staged_writes()

    def apply(self, logits: Any, ctx: Any = None) -> Any:
        """Mark one step; V2 gives the step's layout along."""
        if ctx is None:
            return self._v1.apply(logits)
        return self._v2.apply(logits, ctx)


def _unmarkable(sampling_params: Any) -> str:
    """Say why vLLM's way to answer a request cannot be marked, if so."""
    if getattr(sampling_params, "trace_decode_token_ids", None) is not None:
        return "a replayed trace is not drawn"
    if getattr(sampling_params, "watermarking", None) is not False:
        return ""
    # Beam search asks for one token at a time, each a request of its own that vLLM opts out.
    if sampling_params.max_tokens == 1 and not sampling_params.detokenize:
        return "beam search cannot be marked; set use_beam_search to false"
    raise RequestError(
        'the field "watermarking" belongs to vLLM\'s own watermark, which this server does not '
        f"use; leave it out (where the policy allows it, {OPT_OUT_ARGUMENT} in vllm_xargs opts out)"
    )


def _check_engine(vllm_config: Any, policy: Policy) -> None:
    if getattr(vllm_config, "watermark_config", None) is not None:
        raise ConfigError(
            "vLLM's own watermark (--watermark-config) is on as well: two marks on one text spoil "
            "each other; switch one off"
        )
    if policy.config.reasoning is not None:
        policy.config.reasoning.check_vocabulary(vllm_config.model_config.get_vocab_size())
    expected, name = policy.config.tokenizer, vllm_config.model_config.tokenizer
    if expected is None:
        return
    if not Path(name).is_dir():
        _LOGGER.warning(
            "heirmark: the tokenizer %s is not a local folder and was not compared with the "
            "config's", name
        )  # fmt: skip
        return
    check_fingerprint(load_tokenizer(name), expected)
