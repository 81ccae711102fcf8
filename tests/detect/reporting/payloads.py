"""Small results of the kinds that have pages of their own, as their commands write them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["MAKERS"]

DEPLOYMENT = {
    "scheme": "dual-gumbel",
    "score": "typical",
    "context_width": 2,
    "key_id": "hm1-3f0c9a41d2b7",
    "config_fingerprint": "sha256:" + "9f2c" * 16,
}
LIMITS = {"limits": ["A paraphrase by another model would remove most of the mark."]}


def _finding(kind: str, log10_p: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "p_value": 10**log10_p,
        "log10_p": log10_p,
        "verdict": "signal",
        "alpha": 1e-6,
        "n_scored": 950,
        "n_powered": 430,
        "reasons": {"no_context": 2, "repeated_pair": 48},
        **DEPLOYMENT,
        **LIMITS,
        **more,
    }


def make_segments() -> dict[str, Any]:
    ends = np.arange(2, 1001, 2)
    height = np.where((ends > 400) & (ends <= 660), -30.0, -1.5)
    return _finding(
        "segments",
        -30.0,
        method="corrected",
        n_tokens=1000,
        n_windows=422,
        evidence={"end": ends.tolist(), "log10_p": height.tolist()},
        segments=[
            {
                "p_value": 1e-30,
                "log10_p": -30.0,
                "log10_p_uncorrected": -32.6,
                "n_scored": 240,
                "statistic": 401.5,
                "window": {"tokens": [400, 660], "characters": [800, 1320]},
                "estimate": {"tokens": [412, 655], "characters": [824, 1310]},
            }
        ],
        tokens=[
            {"text": f"w{i} ", "score": float(i % 5), "nats": float(i % 5), "reason": "scored"}
            for i in range(1000)
        ],
    )


def make_fraction() -> dict[str, Any]:
    return _finding(
        "fraction",
        -31.0,
        method="exact",
        log10_p_ceiling=-31.0,
        statistic=66.98,
        n_tokens=1000,
        seed=0,
        decoys={"n_decoys": 9999, "n_at_least": 0, "p_value": 1e-4, "log10_e": 3.8, "seed": 0},
        curve={"n_scored": [1, 475, 950], "log10_p": [-0.1, -9.0, -31.0]},
        fraction={"estimate": 0.0647, "low": -0.01, "high": 0.0956, "level": 0.95},
        reference={
            "strength": 0.401,
            "strength_standard_error": 0.0322,
            "token_variance": 1.1,
            "document_variance": 0.01,
            "n_documents": 6,
        },
        higher_criticism={
            "statistic": 5.1,
            "n_documents": 44,
            "threshold": 0.0227,
            "n_below": 7,
            "n_below_expected": 1.0,
            "p_value": 9.8e-5,
            "log10_p": -4.0088,
        },
        n_documents=44,
        n_documents_scored=43,
        warnings=[],
    )


def make_watch() -> dict[str, Any]:
    return _finding(
        "watch",
        -8.5,
        method="e-process",
        log10_e=7.25,
        n_tokens=1000,
        n_answers=10,
        course={
            "n_answers": list(range(1, 11)),
            "n_scored": [95 * i for i in range(1, 11)],
            "log10_e": [-0.4, -0.7, -0.2, 0.9, 2.0, 3.5, 5.1, 7.0, 8.5, 7.25],
        },
        warnings=["2 of 10 answers came without their prompt."],
    )


def make_power() -> dict[str, Any]:
    needs = [(1.0, 13_400), (0.1, 1_188_700), (0.01, 117_357_500)]
    return {
        "kind": "power",
        "access": "text",
        **DEPLOYMENT,
        "alpha": 1e-6,
        "power": 0.9,
        "share": 0.1,
        "effect": 0.0066,
        "basis": {"size": 0.066, "setting": "a student", "source": "benchmarks/results/demo.json"},
        "assumptions": ["the effect is proportional to the marked share, to first order"],
        "n_scored": 855_864,
        "n_tokens": 1_188_700,
        "n_answers": 11_887,
        "n_answers_range": [9_000, None],
        "answer_tokens": 100,
        "first_order_n_scored": 860_000.0,
        "expected_stopping_n_scored": 764_000.0,
        "budget": 1_000_000,
        "detectable": False,
        "least_share": 0.109,
        "by_share": [
            {"share": s, "n_tokens": n, "n_answers": -(-n // 100)} for s, n in needs
        ] + [{"share": 0.001, "n_tokens": None, "n_answers": None}],
        "prospects": [{"what": "one account key", "n_tokens": None, "detectable": False}],
        **LIMITS,
    }  # fmt: skip


def _trials(n: int) -> dict[str, Any]:
    alphas = [1.0, 0.1, 0.01]
    rate = {"alpha": 0.1, "hits": n // 10, "n": n, "rate": 0.1, "low": 0.08, "high": 0.12}
    return {
        "n": n,
        "rates": [{**rate, "log10_excess": -0.3}],
        "uniformity_p_value": 0.47,
        "curve": {"alpha": alphas, "share": [1.0, 0.1, 0.0], "low": [1.0, 0.08, 0.0],
                  "high": [1.0, 0.12, 0.02]},
    }  # fmt: skip


def make_calibration() -> dict[str, Any]:
    return {
        "kind": "calibration",
        **DEPLOYMENT,
        "n_tokens": 8_534,
        "n_pieces": {"plain": 46, "repetitive": 12},
        "strata": {"plain": "neither of the others", "repetitive": "repeats itself"},
        "dropped": {"too_short": 1},
        "n_keys": 50,
        "seed": 0,
        "fresh_keys": {"all": _trials(2900), "plain": _trials(2300)},
        "this_key": {**_trials(58), "log10_p_pooled": -1.28, "n_pooled": 5517, "n_shared": 1047},
        "warnings": [],
        **LIMITS,
    }


MAKERS = {
    "segments": make_segments,
    "fraction": make_fraction,
    "watch": make_watch,
    "power": make_power,
    "calibration": make_calibration,
}
