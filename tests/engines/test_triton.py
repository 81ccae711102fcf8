"""The kernels for accelerators, in Triton's interpreter, against torch and the definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engines.oracle import ask
from watermark.kernels import torch_prf
from watermark.schemes.gumbel import force_gumbel_winner
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament

VECTORS = Path(__file__).parents[1] / "vectors" / "prf_heirmark_1.json"


def _case(vocabulary: int, n_rows: int = 3, seed: int = 0, spread: float = 2.0) -> dict[str, Any]:
    """Make logits with a steep row, a truncated one and one with equal logits."""
    g = torch.Generator().manual_seed(seed + vocabulary)
    logits = torch.randn(n_rows, vocabulary, generator=g) * spread
    logits[1, 5:] = logits[1, 5:].round()
    logits[2, 8:] = logits[2, 8:].masked_fill(
        torch.rand(vocabulary - 8, generator=g) < 0.99, -torch.inf
    )
    return {
        "hashes": torch.randint(-(2**62), 2**62, (n_rows, 2), generator=g).tolist(),
        "streams": torch.randint(0, 2, (n_rows,), generator=g).tolist(),
        "logits": logits.tolist(),
        "rows": None,
    }


def _words(case: dict[str, Any]) -> torch.Tensor:
    hashes, streams = torch.tensor(case["hashes"]), torch.tensor(case["streams"])
    ids = torch.arange(len(case["logits"][0])).expand(len(hashes), -1)
    return torch_prf.words(hashes, ids, streams)


def test_words_are_the_frozen_ones_and_torch_s() -> None:
    frozen = json.loads(VECTORS.read_text(encoding="utf-8"))
    key = [torch_prf.signed(int(k)) for k in frozen["sip_key"]]
    cases = [
        {"keys": [key], "contexts": [r["context"]], "tokens": [r["tokens"]],
         "streams": [r["stream"]]} for r in frozen["rows"]
    ]  # fmt: skip
    g = torch.Generator().manual_seed(0)
    for h in (0, 1, 2, 5):
        cases.append({
            "keys": torch.randint(-(2**62), 2**62, (40, 2), generator=g).tolist(),
            "contexts": torch.randint(0, 2**32, (40, h), generator=g).tolist(),
            "tokens": torch.randint(0, 2**32, (40, 600), generator=g).tolist(),
            "streams": torch.randint(0, 3, (40,), generator=g).tolist(),
        })  # fmt: skip
    replies = ask("triton", {"ask": "words", "cases": cases})["reply"]
    for row, reply in zip(frozen["rows"], replies, strict=False):
        assert reply["words"][0] == row["words"]
    for case, reply in zip(cases[-4:], replies[-4:], strict=True):
        keys = torch.tensor(case["keys"])
        contexts = torch.tensor(case["contexts"], dtype=torch.int64).reshape(40, -1)
        hashes = torch_prf.context_hashes(keys[:, 0], keys[:, 1], contexts)
        assert reply["hashes"] == hashes.tolist()
        words = torch_prf.words(hashes, torch.tensor(case["tokens"]), torch.tensor(case["streams"]))
        assert reply["words"] == words.tolist()


def test_rough_values_err_less_than_the_search_allows() -> None:
    """All the places where the two ways to compute -log u meet, and both ends."""
    edges = [2**k + d for k in range(1, 33) for d in (-2, -1, 0, 1)]
    edges += [2**32 - 2**k + d for k in range(1, 31) for d in (-1, 0, 1)]
    words = np.array([w for w in {0, 1, *edges} if 0 <= w < 2**32] + [0xF8000000 - 1, 0xF8000000])
    random = np.random.default_rng(0).integers(0, 2**32, 3000)
    words = np.concatenate([words, random])
    words = words[: len(words) // 4 * 4]
    for logit in (0.0, -40.0, 25.0, 3000.0):
        logits = np.full(len(words), logit)
        request = {"ask": "rough", "logits": logits.tolist(), "words": words.tolist()}
        found = np.array(ask("triton", request)["reply"])
        uniform = (words + 0.5) / 2**32
        exact = logits / np.log(2) - np.log2(-np.log2(uniform))
        allowed = (1e-4 + 4e-7 * (np.abs(exact) + 32)) / 2
        assert (np.abs(found - exact) < allowed).all()


@pytest.mark.parametrize("strided", [False, True])
def test_winners_are_the_definition_s(strided: bool) -> None:
    tiling = [256, 2, 4, strided]
    plain = {"least": None, "forces": False, "tiling": tiling}
    cases = [{**_case(v, spread=s), **plain} for v, s in ((1003, 0.02), (1024, 2.0), (600, 200.0))]
    cut = {**cases[1], "least": (torch.tensor(cases[1]["logits"]).amax(dim=1) - 1).tolist()}
    replies = ask("triton", {"ask": "winners", "cases": [*cases, cut]})["reply"]
    for case, reply in zip([*cases, cut], replies, strict=True):
        logits = torch.tensor(case["logits"])
        assert reply["logits"] == case["logits"]
        if case["least"] is not None:
            least = torch.tensor(case["least"])
            logits = logits.masked_fill(logits < least[:, None], -torch.inf)
        expected = force_gumbel_winner(logits, _words(case)).isfinite().int().argmax(dim=1)
        assert reply["tokens"] == expected.tolist()


def test_near_ties_are_decided_in_float64() -> None:
    """Rough values of many tokens agree here: the second search must find the winner."""
    case = _case(1003)
    words = _words(case)
    noise = -torch.log(-torch.log((words.double() + 0.5) / 2**32))
    # All values are 0 up to the rounding of float32.
    case["logits"] = (-noise).float().tolist()
    logits = torch.tensor(case["logits"])
    expected = force_gumbel_winner(logits, words).isfinite().int().argmax(dim=1).tolist()
    cases = [{**case, "least": None, "forces": False, "tiling": [256, n, 4, False]} for n in (1, 2)]
    for reply in ask("triton", {"ask": "winners", "cases": cases})["reply"]:
        assert reply["tokens"] == expected


def test_bad_rows_and_rows_of_others_stay() -> None:
    case = _case(600, 6)
    logits = torch.tensor(case["logits"])
    logits[0, 3], logits[1, 3], logits[3] = torch.nan, torch.inf, -torch.inf
    rows = [3, 0, 1, 5]
    case |= {"logits": logits.tolist(), "rows": rows, "least": None, "forces": True}
    case |= {"hashes": case["hashes"][:4], "streams": case["streams"][:4]}
    (reply,) = ask("triton", {"ask": "winners", "cases": [{**case, "tiling": [256, 1]}]})["reply"]
    forced = torch.tensor(reply["logits"])
    assert reply["tokens"][:3] == [-1, -1, -1]
    torch.testing.assert_close(forced[:5], logits[:5], rtol=0, atol=0, equal_nan=True)
    assert forced[5].isfinite().nonzero().flatten().tolist() == [reply["tokens"][3]]


@pytest.mark.parametrize("strided", [False, True])
def test_green_logits_are_tilted_to_the_bit(strided: bool) -> None:
    scheme = RedGreen(0.3, 1.5)
    plain = {"first_red": scheme.first_red, "delta": 1.5, "tiling": [256, 4, strided]}
    cases = [{**_case(v), **plain, "scales": None} for v in (1003, 1024)]
    scaled = {**cases[0], "rows": [2, 0], "scales": [0.0, 2.0]}
    scaled |= {"hashes": scaled["hashes"][:2], "streams": scaled["streams"][:2]}
    replies = ask("triton", {"ask": "tilt", "cases": [*cases, scaled]})["reply"]
    for case, reply in zip(cases, replies, strict=False):
        expected = scheme.embed(torch.tensor(case["logits"]), _words(case))
        assert torch.equal(torch.tensor(reply), expected)
    logits, found = torch.tensor(scaled["logits"]), torch.tensor(replies[-1])
    assert torch.equal(found[1:], logits[1:])
    green = _words(scaled)[1] < scheme.first_red
    assert torch.equal(found[0], torch.where(green, logits[0] + 3.0, logits[0]))


@pytest.mark.parametrize("n_layers", [1, 7, 30, 32])
def test_tournaments_are_played_as_defined(n_layers: int) -> None:
    cases = [{**_case(v), "n_layers": n_layers, "tiling": [256, 2]} for v in (1003, 512)]
    large = torch.tensor(cases[1]["logits"]) + 5_000
    cases.append({**cases[1], "logits": large.tolist()})
    some = {**cases[1], "rows": [2, 0]}
    some |= {"hashes": some["hashes"][:2], "streams": some["streams"][:2]}
    replies = ask("triton", {"ask": "tournament", "cases": [*cases, some]})["reply"]
    for case, reply in zip(cases, replies, strict=False):
        marked = torch.tensor(reply)
        expected = Tournament(n_layers).embed(torch.tensor(case["logits"]), _words(case))
        assert torch.equal(marked.isfinite(), expected.isfinite())
        assert float((marked.exp() - expected.exp()).abs().sum(dim=1).max()) < 1e-5
    found, logits = torch.tensor(replies[-1]), torch.tensor(some["logits"])
    expected = Tournament(n_layers).embed(logits[[2, 0]], _words(some))
    assert torch.equal(found[1], logits[1])
    assert float((found[[2, 0]].exp() - expected.exp()).abs().sum(dim=1).max()) < 1e-5
