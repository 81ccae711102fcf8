"""The contract of every scheme; a new one is tested on arrival."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.vectors import regenerate
from watermark.errors import ConfigError
from watermark.schemes import SCHEMES, Scheme, make_scheme
from watermark.schemes.green_list import GreenList
from watermark.schemes.laws import LayeredBits

RNG_SEED = 7
VOCABULARY = 12


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> Scheme:
    return SCHEMES[request.param]()


def _words(*shape: int) -> np.ndarray:
    return np.random.default_rng(RNG_SEED).integers(0, 2**32, shape, np.uint32)


def _logits(rows: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(RNG_SEED)
    return 1.5 * torch.randn(rows, VOCABULARY, generator=generator, dtype=dtype)


def _embed_words(rows: int) -> torch.Tensor:
    return torch.from_numpy(_words(rows, VOCABULARY).astype(np.int64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_embed_is_pure_and_keeps_shape_and_dtype(scheme: Scheme, dtype: torch.dtype) -> None:
    logits, words = _logits(5, dtype), _embed_words(5)
    before = logits.clone(), words.clone()
    marked = scheme.embed(logits, words)
    assert marked.shape == logits.shape
    assert marked.dtype == dtype
    assert torch.equal(marked, scheme.embed(logits, words))
    assert torch.equal(before[0], logits)
    assert torch.equal(before[1], words)


def test_what_is_forbidden_stays_forbidden(scheme: Scheme) -> None:
    logits = _logits(200)
    logits[
        torch.rand(200, VOCABULARY, generator=torch.Generator().manual_seed(0)) < 0.7
    ] = -torch.inf
    logits[:, 3] = 0.0
    marked = scheme.embed(logits, _embed_words(200))
    assert not (marked.isfinite() & ~logits.isfinite()).any()
    assert marked.isfinite().any(dim=1).all()
    assert not marked.isnan().any()


def test_one_legal_token_is_left_as_it_is(scheme: Scheme) -> None:
    logits = torch.full((4, VOCABULARY), -torch.inf)
    logits[:, 5] = 1.0
    assert (scheme.embed(logits, _embed_words(4)).argmax(dim=1) == 5).all()


def test_the_score_follows_its_law(scheme: Scheme) -> None:
    """H0: words uniform. Mean and variance within 6 standard errors: false alarms below 1e-8."""
    n = 400_000
    scores = scheme.score(_words(scheme.n_streams, n))
    assert scores.shape == (n,)
    assert scores.dtype == np.float64
    law = scheme.law
    assert abs(scores.mean() - law.mean) < 6 * (law.variance / n) ** 0.5
    fourth = ((scores - law.mean) ** 4).mean()
    assert abs(scores.var() - law.variance) < 6 * (fourth / n) ** 0.5


def test_the_cumulants_are_those_of_the_score(scheme: Scheme) -> None:
    """E[e^(t s)] by simulation against K(t), and K', K'' against differences of K."""
    law = scheme.law
    scores = scheme.score(_words(scheme.n_streams, 400_000))
    for standardised in (-0.4, 0.3):
        t = np.array([standardised / law.variance**0.5])
        k = law.cumulants(t)
        sample = np.exp(t * scores)
        error = sample.std() / len(scores) ** 0.5
        assert abs(sample.mean() - np.exp(k.value[0])) < 6 * error
        step = 1e-5 * abs(t)
        up, down = law.cumulants(t + step), law.cumulants(t - step)
        assert np.allclose((up.value - down.value) / (2 * step), k.first, rtol=1e-6)
        assert np.allclose((up.first - down.first) / (2 * step), k.second, rtol=1e-6)
    assert law.t_min < 0 < law.t_max


def test_extreme_words_have_finite_scores(scheme: Scheme) -> None:
    extreme = np.array([0, 1, 2**32 - 1, 2**31], np.uint32)
    scores = scheme.score(np.stack([extreme, extreme[::-1]])[: scheme.n_streams])
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


def test_marked_tokens_score_above_chance(scheme: Scheme) -> None:
    rows = 3000
    logits, words = _logits(1).expand(rows, -1), _embed_words(rows)
    chosen = torch.multinomial(
        scheme.embed(logits, words).softmax(dim=1), 1, generator=torch.Generator().manual_seed(1)
    )
    own = words.gather(1, chosen).squeeze(1).numpy().astype(np.uint32)
    streams = np.stack([own, _words(2, rows)[1]])[: scheme.n_streams]
    excess = scheme.score(streams).mean() - scheme.law.mean
    assert excess > 10 * (scheme.law.variance / rows) ** 0.5


def test_unbiased_schemes_keep_the_distribution(scheme: Scheme) -> None:
    """Over random words the mean marked distribution is the model's (z below 6 in each token)."""
    rows = 60_000
    logits = _logits(1)
    marked = scheme.embed(logits.expand(rows, -1), _embed_words(rows)).softmax(dim=1).double()
    wanted = logits.double().softmax(dim=1)[0]
    z = (marked.mean(dim=0) - wanted) / (marked.std(dim=0) / rows**0.5)
    assert (z.abs().max() < 6) == scheme.unbiased


@pytest.mark.parametrize("name", ["gumbel", "dual-gumbel"])
def test_gumbel_scores_are_exponential_and_never_above(name: str) -> None:
    """Kolmogorov-Smirnov distance of 10^6 scores to Exp(1): below 2.7 / 1000 (p = 1e-6)."""
    n = 1_000_000
    scheme = SCHEMES[name]()
    scores = np.sort(scheme.score(_words(scheme.n_streams, n)))
    steps = np.arange(1, n + 1) / n
    theory = -np.expm1(-scores)
    assert np.abs(theory - steps + 0.5 / n).max() < 2.7 / n**0.5


@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.5])
def test_the_dual_score_has_the_distribution_function_it_claims(alpha: float) -> None:
    """P(min(p_A / (1 - a), p_B / a) <= m) on an exact grid of (p_A, p_B)."""
    p = (np.arange(2000) + 0.5) / 2000
    for m in (0.01, 0.3, 0.9):
        in_a, in_b = p / (1 - alpha) <= m, p / alpha <= m
        share = 1 - (1 - in_a.mean()) * (1 - in_b.mean())
        assert abs(share - m * (1 - alpha * (1 - alpha) * m)) < 2e-3


def test_layer_weights_make_the_law() -> None:
    law = SCHEMES["tournament"]().law
    assert isinstance(law, LayeredBits)
    assert law.weights == tuple(range(30, 0, -1))


def test_frozen_scores() -> None:
    frozen = json.loads((regenerate.FOLDER / "schemes.json").read_text(encoding="utf-8"))
    assert set(frozen["scores"]) == set(SCHEMES)
    words = np.array(frozen["words"], np.uint32)
    for name, expected in frozen["scores"].items():
        scheme = SCHEMES[name]()
        scores = scheme.score(np.stack([words, words[::-1]])[: scheme.n_streams])
        assert np.allclose(scores, expected, rtol=1e-11)


def test_parameters_round_trip(scheme: Scheme) -> None:
    assert make_scheme(scheme.name, scheme.parameters()) == scheme
    assert hash(scheme) == hash(make_scheme(scheme.name, scheme.parameters()))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("red-green", {"gamma": 0.0}),
        ("red-green", {"gamma": 1.0}),
        ("red-green", {"gamma": float("nan")}),
        ("red-green", {"delta": 0.0}),
        ("red-green", {"delta": float("inf")}),
        ("red-green", {"gamma": "half"}),
        ("dual-gumbel", {"alpha": 0.6}),
        ("dual-gumbel", {"alpha": 0.0}),
        ("tournament", {"n_layers": 33}),
        ("tournament", {"n_layers": 0}),
        ("gumbel", {"temperature": 1.0}),
        ("kgw", {}),
    ],
)
def test_bad_parameters_are_refused(name: str, parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        make_scheme(name, parameters)


@pytest.mark.parametrize("n_cells", [3, 7, 50_257, (1 << 31) - 1])
def test_a_green_list_of_our_own_words_is_no_longer_than_its_law_says(n_cells: int) -> None:
    """Words are drawn whole: `first_red` of 2^32 are green, up to half more than one cell's."""
    scheme = GreenList(1, n_cells)
    assert scheme.score(np.array([[scheme.first_red - 1, scheme.first_red]], np.uint32))[0] == 1
    assert scheme.law.probability * 2**32 == scheme.first_red
    assert scheme.law.probability >= scheme.n_green / scheme.n_cells
