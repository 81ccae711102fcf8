"""llama-cpp-python: a Llama that says nothing unmarked.

    llama = Llama("model.gguf")
    mark_llama(llama, load_policy("policy.json"))
    llama.create_chat_completion(messages)
    named = RequestProcessors({"heirmark_key_id": "tenant-a"})
    llama.create_chat_completion(messages, logits_processor=named)

The library's logits processors are no place for a mark. They stand before penalties, grammar,
top-k, top-p, min-p and temperature; an error inside of them is printed and forgotten (a ctypes
callback cannot raise), and the text goes on without them; with `logit_bias` their list is lost.
So the mark is a sampler of its own, the last but one of llama.cpp's chain: all of these have been
applied by the engine itself, and nothing but the draw comes after. What cannot be marked is
refused before the prompt is read.
"""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import FingerprintError, GenerationError, RequestError
from watermark.keys import Key
from watermark.serving.candidates import CandidateMarker
from watermark.serving.metrics import count_request
from watermark.serving.policy import Policy, RequestTerms
from watermark.tokens import TextTokenizer, check_fingerprint

__all__ = ["RequestProcessors", "mark_llama"]

_LOGGER: Final = logging.getLogger(__name__)
# Private names of the library that are replaced or read; tested with 0.3.36.
_NEEDED: Final = ("_init_sampler", "generate", "input_ids", "n_tokens", "_seed")
_GREEDY: Final = 1e-5
_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_PROBE: Final = "The harbour was quiet; 17 boats, naïve à la carte. 東京\n\n    def f(x): return x"
_SEEDS: Final = 1 << 63


@final
class RequestProcessors(list[Callable[..., Any]]):
    """What a request says to the policy, given as `logits_processor`, and its own processors.

    Args:
        arguments: the request's arguments, such as heirmark_key_id.
        processors: logits processors that run before everything else, as the library runs them.
    """

    def __init__(
        self, arguments: Mapping[str, object], processors: Iterable[Callable[..., Any]] = ()
    ) -> None:
        super().__init__(processors)
        self.arguments = dict(arguments)

    def extend(self, more: Iterable[Callable[..., Any]]) -> Self:  # type: ignore[override]
        """Return a longer list: with `logit_bias` the library takes what this returns."""
        return type(self)(self.arguments, [*self, *more])


def mark_llama(llama: Any, policy: Policy, *, tokenizer: TextTokenizer | None = None) -> None:
    """Make a Llama mark or refuse everything that it generates.

    Only this object in memory is changed; a pickled copy is not marked.

    Args:
        llama: a llama_cpp.Llama.
        policy: who is marked with which key.
        tokenizer: that of the model, such as `load_tokenizer("tokenizer.json")`; it is compared
            with the config's and with how `llama` cuts text.

    Raises:
        GenerationError: a Llama that was marked before, or a version that is built otherwise.
        FingerprintError: another tokenizer.
    """
    if missing := [name for name in _NEEDED if not hasattr(llama, name)]:
        raise GenerationError(
            f"this is no Llama of llama-cpp-python 0.3, it has no {', '.join(missing)}; install "
            "llama-cpp-python 0.3.36, which the mark was tested with"
        )
    if "_init_sampler" in vars(llama):
        raise GenerationError("this Llama is marked already; load it anew for another policy")
    _check_tokenizer(llama, policy, tokenizer)
    if policy.config.leaves:
        _LOGGER.warning("heirmark: the config leaves %s unmarked", policy.config.leaves)
    marking = _Marking(llama, policy)
    llama.generate = marking.generate
    llama._init_sampler = marking.init_sampler


def _check_tokenizer(llama: Any, policy: Policy, tokenizer: TextTokenizer | None) -> None:
    if tokenizer is None:
        if policy.config.tokenizer is not None:
            _LOGGER.warning(
                "heirmark: the model's tokenizer was not compared with the config's; give "
                "mark_llama(..., tokenizer=load_tokenizer(...))"
            )
        return
    check_fingerprint(tokenizer, policy.config.tokenizer)
    cut = llama.tokenize(_PROBE.encode(), add_bos=False, special=False)
    if tokenizer.encode(_PROBE).tolist() != list(cut):
        raise FingerprintError(
            "the model cuts text into other tokens than the tokenizer that was given; give the "
            "tokenizer of this very model"
        )


@final
class _Marking:
    """What replaces two methods of one Llama."""

    def __init__(self, llama: Any, policy: Policy) -> None:
        # Weak, here and below: a Llama that nobody wants must give its memory back at once.
        self._llama, self._policy, self._methods = weakref.ref(llama), policy, type(llama)
        self._marker = CandidateMarker(policy.config, llama.n_vocab())
        self._is_starting = False

    def generate(self, *args: Any, **kwargs: Any) -> Iterator[int]:
        """Generate as before; see llama_cpp.Llama.generate."""
        # The first thing that it does is to ask for its sampler.
        self._is_starting = True
        yield from self._methods.generate(self._llama(), *args, **kwargs)

    def init_sampler(self, **options: Any) -> Any:
        """Build the chain of one generation, with the mark before its end.

        Args:
            **options: the library's.

        Returns:
            What the library uses as its LlamaSampler.

        Raises:
            RequestError: refused by the policy.
            GenerationError: sampling outside generate(), whose prompt nobody knows.
        """
        if not self._is_starting:
            raise GenerationError(
                "sample() alone does not say where the prompt ends, so that its tokens cannot be "
                "marked; use generate(), create_completion() or create_chat_completion()"
            )
        self._is_starting = False
        try:
            ruling = self._policy.rule(_terms(options))
        except RequestError:
            count_request("refused")
            raise
        count_request(ruling.status)
        llama = self._llama()
        chain = self._methods._init_sampler(llama, **options)
        if ruling.key is None:
            return chain
        return _MarkedSampler(llama, chain, self._marker, ruling.key)


def _terms(options: Mapping[str, Any]) -> RequestTerms:
    processors = options.get("logits_processor")
    if any(isinstance(processor, RequestProcessors) for processor in processors or ()):
        raise RequestError(
            "RequestProcessors is not a processor among others: give it as logits_processor, and "
            "the others to it"
        )
    arguments = processors.arguments if isinstance(processors, RequestProcessors) else {}
    temperature = options.get("temp", 1.0)
    is_greedy = 0 <= temperature < _GREEDY
    unmarkable = ""
    if options.get("mirostat_mode", 0) in (1, 2) and not is_greedy:
        unmarkable = "mirostat truncates and draws in one, so that no mark fits between"
    return RequestTerms(arguments, is_greedy, unmarkable)


@final
class _MarkedSampler:
    """A chain of llama.cpp that marks, for one generation."""

    def __init__(self, llama: Any, chain: Any, marker: CandidateMarker, key: Key) -> None:
        self._llama, self._chain, self._marker = weakref.proxy(llama), chain, marker
        self._row = marker.start(key, llama._seed % _SEEDS)
        self._border: int | None = None
        self._response: list[int] = []
        self._error: BaseException | None = None
        own_apply = weakref.WeakMethod(self._apply)
        _insert_before_last(chain, lambda pointer: own_apply()(pointer))  # type: ignore[misc]

    def sample(self, context: Any, index: int) -> int:
        """Draw a token.

        Args:
            context: the library's LlamaContext.
            index: position of the logits, counted from the end, below 0.

        Returns:
            The token.

        Raises:
            GenerationError: a context that was cut before the response.
        """
        # With a draft model more than is settled has been read: what follows here does not count.
        n = self._llama.n_tokens + index + 1
        if self._border is None:
            self._border = n
        if n < self._border:
            raise GenerationError("the tokens of the prompt have changed; start a new generate()")
        self._response = self._llama.input_ids[self._border : n].tolist()
        token = int(self._chain.sample(context, index))
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return token

    def close(self) -> None:
        """Free the chain."""
        self._chain.close()

    def _apply(self, pointer: Any) -> None:
        try:
            array = pointer.contents
            candidates = _view(array)
            kept = self._marker.mark(
                self._row,
                self._response,
                candidates["id"].astype(np.int64),
                candidates["logit"].copy(),
            )
            if kept is None:
                return
            places, logits = kept
            candidates[: len(places)] = candidates[places]
            candidates["logit"][: len(places)] = logits
            array.size, array.sorted = len(places), False
        except BaseException as error:  # what is raised here would be printed and forgotten
            self._error = error


def _view(array: Any) -> NDArray[np.void]:
    """Look at a llama_token_data_array without a copy."""
    address = ctypes.cast(array.data, ctypes.c_void_p).value
    assert address is not None
    memory = (ctypes.c_char * (array.size * _CANDIDATE.itemsize)).from_address(address)
    return np.frombuffer(memory, _CANDIDATE)


def _insert_before_last(chain: Any, apply: Callable[[Any], None]) -> None:
    """Put a sampler before the one that draws."""
    import llama_cpp

    last = llama_cpp.llama_sampler_chain_n(chain.sampler) - 1
    drawing = llama_cpp.llama_sampler_chain_get(chain.sampler, last)
    name = llama_cpp.llama_sampler_name(drawing)
    if name not in (b"dist", b"greedy"):
        raise GenerationError(
            f"llama.cpp's chain ends with {name!r}, expected the sampler that draws; install "
            "llama-cpp-python 0.3.36, which the mark was tested with"
        )
    drawing = llama_cpp.llama_sampler_chain_remove(chain.sampler, last)
    chain.add_custom(apply)
    llama_cpp.llama_sampler_chain_add(chain.sampler, drawing)
