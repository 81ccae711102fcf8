"""The llama.cpp adapter on a stand-in; `tests/engines/test_llama_cpp.py` runs the library."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from detect.scoring.scores import score_pairs, select_pairs
from detect.tails.nulls import tail
from tests.watermark.serving.engine_doubles import KEYS, policy_of
from watermark.config import WatermarkConfig, preset
from watermark.errors import GenerationError, RequestError
from watermark.schemes.red_green import RedGreen
from watermark.serving.llama_cpp import RequestProcessors, mark_llama

VOCABULARY = 100


class _Candidate(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float))


class _Array(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.POINTER(_Candidate)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


class _Chain:
    """What the library calls LlamaSampler; like ctypes, it forgets what a custom one raises."""

    def __init__(self, llama: Llama, options: dict[str, Any]) -> None:
        self.rng = np.random.default_rng(llama._seed)
        last = "greedy" if options["temp"] == 0 else options["last"]
        self.samplers: list[tuple[str, Callable[[Any], None] | None]] = [("temp", None)]
        self.samplers.append((last, None))

    @property
    def sampler(self) -> _Chain:
        return self

    def add_custom(self, apply: Callable[[Any], None]) -> None:
        self.samplers.append(("custom", apply))

    def sample(self, logits: np.ndarray, index: int) -> int:
        n = len(logits)
        # The library leaves them sorted where it has cut something.
        order = np.argsort(-logits)
        memory = (_Candidate * n)(*[_Candidate(int(i), float(logits[i]), 0.0) for i in order])
        array = _Array(memory, n, -1, True)
        for _, apply in self.samplers:
            if apply is not None:
                try:
                    apply(ctypes.pointer(array))
                except BaseException:
                    continue
        left = [(memory[i].id, memory[i].logit) for i in range(array.size)]
        values = np.array([logit for _, logit in left])
        if self.samplers[-1][0] == "greedy":
            return int(left[int(values.argmax())][0])
        top = values[0] if array.sorted else values.max()
        weights = np.exp(values - top)
        return int(left[self.rng.choice(len(left), p=weights / weights.sum())][0])


class Llama:
    """The methods and names of llama_cpp.Llama that are used."""

    def __init__(self) -> None:
        self.input_ids, self.n_tokens, self._seed = np.zeros(512, np.int32), 0, 3
        self._sampler: Any = None
        self._rng = np.random.default_rng(5)

    def n_vocab(self) -> int:
        return VOCABULARY

    def _init_sampler(self, temp: float = 0.8, last: str = "dist", **options: Any) -> Any:
        return _Chain(self, {"temp": temp, "last": last})

    def sample(self, **options: Any) -> int:
        sampler = self._sampler or self._init_sampler(**options)
        logits = 2 * self._rng.standard_normal(VOCABULARY).astype(np.float32)
        return int(sampler.sample(logits, -1))

    def generate(self, tokens: list[int], **options: Any) -> Iterator[int]:
        self._sampler = self._init_sampler(**options)
        self.n_tokens = 0
        while True:
            self.input_ids[self.n_tokens : self.n_tokens + len(tokens)] = tokens
            self.n_tokens += len(tokens)
            tokens = [self.sample()]
            yield tokens[0]


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = SimpleNamespace(
        llama_sampler_chain_n=lambda chain: len(chain.samplers),
        llama_sampler_chain_get=lambda chain, i: chain.samplers[i],
        llama_sampler_chain_remove=lambda chain, i: chain.samplers.pop(i),
        llama_sampler_chain_add=lambda chain, sampler: chain.samplers.append(sampler),
        llama_sampler_name=lambda sampler: sampler[0].encode(),
    )
    monkeypatch.setitem(sys.modules, "llama_cpp", functions)


def _marked(config: WatermarkConfig | None = None, **more: Any) -> Llama:
    llama = Llama()
    mark_llama(llama, policy_of(config or preset("default"), **more))
    return llama


def _answer(llama: Llama, n: int = 60, **options: Any) -> list[int]:
    generated = llama.generate([1, 2, 3], **options)
    return [next(generated) for _ in range(n)]


def _log10_p(ids: list[int], name: str, config: WatermarkConfig | None = None) -> float:
    config = config or preset("default")
    selection = select_pairs(
        np.array(ids), config.context_width, drop_repeated_contexts=True, source=config.source
    )
    scores = score_pairs(selection, config, config.source.under(KEYS[name]))
    return tail(config.scheme.law, float(scores.sum()), len(scores)).log10_p


@pytest.mark.parametrize("name", ["default", "gumbel", "tournament", "red-green"])
def test_what_is_generated_is_marked(name: str) -> None:
    config = preset(name)
    ids = _answer(_marked(config))
    assert _log10_p(ids, "k0", config) < -6
    assert _log10_p(ids, "k1", config) > -3


def test_a_request_names_its_key_and_keeps_it_with_logit_bias() -> None:
    """The library goes on with what `extend` returns; a list returns None."""
    named = RequestProcessors({"heirmark_key_id": "k2"})
    ids = _answer(_marked(), logits_processor=named.extend([lambda ids, logits: logits]))
    assert _log10_p(ids, "k2") < -6
    assert len(named) == 0


def test_greedy_decoding_takes_a_green_list() -> None:
    config = WatermarkConfig(RedGreen(0.5, 2.0), 2)
    assert _log10_p(_answer(_marked(config), temp=0.0), "k0", config) < -6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temp": 0.0}, "temperature above 0"),
        ({"temp": 1e-6}, "temperature above 0"),
        ({"mirostat_mode": 2}, "mirostat"),
        ({"logits_processor": RequestProcessors({"heirmark_key_id": "no"})}, "names no key"),
        ({"logits_processor": RequestProcessors({"heirmark_key": "1"})}, "chosen on the server"),
        ({"logits_processor": [RequestProcessors({})]}, "not a processor among others"),
    ],
)
def test_what_would_be_unmarked_is_refused(options: dict[str, Any], says: str) -> None:
    llama = _marked()
    with pytest.raises(RequestError, match=says):
        _answer(llama, 1, **options)
    assert _log10_p(_answer(llama), "k0") < -6


def test_a_policy_may_let_greedy_decoding_through() -> None:
    ids = _answer(_marked(greedy="unmarked"), temp=0.0)
    assert _log10_p(ids, "k0") > -3


def test_sampling_without_a_known_prompt_is_refused() -> None:
    with pytest.raises(GenerationError, match="where the prompt ends"):
        _marked().sample()
    llama = _marked()
    _answer(llama, 5)
    llama.n_tokens = 2
    with pytest.raises(GenerationError, match="prompt have changed"):
        llama.sample()


@pytest.mark.parametrize("last", ["mirostat", "xtc"])
def test_a_chain_that_ends_otherwise_is_refused(last: str) -> None:
    with pytest.raises(GenerationError, match="expected the sampler that draws"):
        _answer(_marked(), 1, last=last)


def test_an_error_inside_the_chain_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    llama = _marked()
    monkeypatch.setattr(
        "watermark.serving.candidates.CandidateMarker.mark", lambda *arguments: 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        _answer(llama, 5)


def test_only_a_llama_is_marked_and_only_once() -> None:
    with pytest.raises(GenerationError, match="no Llama of llama-cpp-python"):
        mark_llama(object(), policy_of(preset("default")))
    llama = _marked()
    with pytest.raises(GenerationError, match="marked already"):
        mark_llama(llama, policy_of(preset("default")))


def test_a_llama_that_is_dropped_gives_its_memory_back_at_once() -> None:
    llama = _marked()
    _answer(llama, 5)
    gone, chain = weakref.ref(llama), weakref.ref(llama._sampler._chain)
    gc.disable()
    try:
        del llama
        assert gone() is None
        assert chain() is None
    finally:
        gc.enable()
