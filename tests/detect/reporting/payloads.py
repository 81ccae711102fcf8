"""Small results of every kind that has a page, as their commands write them."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

__all__ = [
    "ALPHA",
    "KINDS",
    "STORY",
    "make_corpus",
    "make_demo",
    "make_head",
    "make_probe",
    "make_result",
    "make_text",
]

ALPHA = 1e-6

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


def make_claim(log10_p: float, n_scored: int, verdict: str, **more: Any) -> dict[str, Any]:
    return {
        "p_value": 10**log10_p if log10_p > -300 else None,
        "log10_p": log10_p,
        "log10_p_ceiling": log10_p,
        "method": "exact",
        "n_tokens": n_scored + 12,
        "n_scored": n_scored,
        "verdict": verdict,
        **more,
    }


def make_head(kind: str, log10_p: float, n_scored: int, verdict: str) -> dict[str, Any]:
    return {
        "kind": kind,
        **make_claim(log10_p, n_scored, verdict),
        "scheme": "dual-gumbel",
        "key_id": "hm1-3f0c9a41d2b7",
        "config_fingerprint": "sha256:" + "9f2c" * 16,
        "alpha": ALPHA,
        "n_powered": 210,
        "reasons": {"no_context": 2, "repeated_context": 10},
        "limits": ["A paraphrase by another model would remove most of the mark."],
    }


def make_curve(log10_p: float, n_scored: int) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    steps = np.unique(np.linspace(1, n_scored, 120).astype(int))
    noise = np.cumsum(rng.normal(0, 1, steps.size)) * math.sqrt(abs(log10_p) + 0.1) / 12
    values = np.minimum(log10_p * steps / n_scored + noise - noise[-1] * steps / n_scored, 0.0)
    return {"n_scored": steps.tolist(), "log10_p": values.tolist()}


STORY = (
    "To find the area of the garden, multiply its length by its width: 12 m × 7 m = 84 m².\n\n"
    "If you plant one tomato every 0.5 m², you need 168 plants. That is a lot of work, so begin "
    "with one bed and see how it goes.  Water in the morning, when the soil is still cool; the "
    "leaves dry quickly and the roots get what they need.\n\n\tTip: keep a list of what you "
    "planted and when. Next spring you will be glad of it.\n"
)


def make_text(log10_p: float = -21.37, verdict: str = "signal") -> dict[str, Any]:
    rng = np.random.default_rng(11)
    pieces = re.findall(r"\s?\w{1,6}|\s|[^\w\s]", STORY)
    assert "".join(pieces) == STORY
    tokens: list[dict[str, Any]] = []
    for index, piece in enumerate(pieces):
        reason = "no_context" if index < 2 else "scored"
        reason = "repeated_context" if index > 20 and index % 17 == 0 else reason
        scored = reason == "scored"
        score = float(rng.exponential(1.9 if verdict == "signal" else 1.0)) if scored else None
        tokens.append({"text": piece, "score": score, "reason": reason})
    n_scored = sum(token["reason"] == "scored" for token in tokens)
    head = make_head("text", log10_p, n_scored, verdict)
    return {
        **head,
        "tokens": tokens,
        "curve": make_curve(log10_p, n_scored),
        "decoys": {"n_decoys": 999, "p_value": 0.001, "seed": 7},
        "command": "heirmark detect answer.txt --key key.json --config config.json --json",
    }


def make_corpus(n_documents: int = 237) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    documents = []
    for index in range(n_documents):
        marked = index % 4 == 0
        log10_p = float(-rng.gamma(16, 1.0) if marked else np.log10(rng.uniform()))
        holm = min(log10_p + math.log10(n_documents), 0.0)
        verdict = "signal" if holm <= -6 else "no_signal"
        n_scored = int(rng.integers(60, 130))
        documents.append(
            {
                "id": f"doc-{index:04d}",
                "source": f"crawl-2026-11.jsonl.gz:{index + 1}",
                **make_claim(log10_p, n_scored, verdict, log10_p_holm=holm),
            }
        )
    return {
        **make_head("corpus", -1234.5678, 21_877, "signal"),
        "documents": documents,
        "n_documents": n_documents,
        "n_significant": sum(d["verdict"] == "signal" for d in documents),
        "decoys": {"n_decoys": 199, "p_value": 0.005, "seed": 1},
        "curve": make_curve(-1234.5678, 21_877),
    }


def make_probe(
    access: str = "weights", log10_p: float = -38.2, verdict: str = "signal"
) -> dict[str, Any]:
    def control(name: str, role: str, control_p: float) -> dict[str, Any]:
        decoys = {"n_decoys": 999, "p_value": round(10**control_p, 3), "seed": 7}
        return {
            "name": name,
            "role": role,
            **make_claim(control_p, 24_113, "no_signal", method="saddlepoint", decoys=decoys),
            "curve": make_curve(control_p, 24_113),
        }

    head = make_head("probe", log10_p, 24_390, verdict)
    return {
        **head,
        "method": "saddlepoint",
        "log10_p_ceiling": min(log10_p + 0.9, 0.0),
        "access": access,
        "suspect": "student-marked",
        "statistic": "sum over x of q(x) (s(u_x) - 1), minus the same for the base model",
        "n_answers": 300,
        "decoys": {"n_decoys": 999, "p_value": 0.001, "seed": 7},
        "controls": [
            control("student-clean", "clean twin", -0.37),
            control("SmolLM2", "base", -0.11),
        ],
        "warnings": [],
        "null_hypothesis": "The suspect's next-token distributions on unmarked texts are "
        "independent of the key.",
        "curve": make_curve(log10_p, 24_390),
    }


def make_demo() -> dict[str, Any]:
    text, corpus = make_text(), make_corpus(60)
    del text["tokens"]
    return {
        "kind": "demo",
        "steps": [
            {"name": "Teacher answers under a fresh key", "seconds": 312.4, "n_answers": 2400},
            {"name": "One answer", "seconds": 0.31, "result": text},
            {"name": "A mixed corpus", "seconds": 2.75, "result": corpus},
            {"name": "Student and twin are trained", "seconds": 418.0, "n_tokens": 240_000},
            {
                "name": "Probe by text",
                "seconds": 96.2,
                "results": [make_probe("text", -7.4)],
            },
            {"name": "Probe by weights", "seconds": 41.9, **make_probe("weights")},
        ],
        "machine": {"cpu": "2 cores", "memory_gib": 16},
        "versions": {"heirmark": "0.1.0", "torch": "2.9.1"},
        "recipe": {"prompts": 1200, "epochs": 2},
    }


def make_profiles() -> dict[str, Any]:
    def row(name: str, log10_p: float, verdict: str) -> dict[str, Any]:
        return {
            "name": name,
            "engine": "vllm",
            "served": "2026-10",
            "scheme": "dual-gumbel",
            "key_id": "hm1-" + name,
            **make_claim(log10_p, 190, verdict),
        }

    text = make_text(-20.5)
    return {
        **text,
        "kind": "profiles",
        "curve": None,
        "profile": "eu",
        "profiles": [row("us", -0.3, "no_signal"), row("eu", -20.8, "signal")],
    }


def make_counterfactuals() -> dict[str, Any]:
    def account(name: str, log10_p: float, verdict: str) -> dict[str, Any]:
        adjusted = min(log10_p + 0.30103, 0.0)
        return {
            "account": name,
            "n_scored": 210,
            "p_value": 10**log10_p,
            "log10_p": log10_p,
            "p_value_adjusted": 10**adjusted,
            "log10_p_adjusted": adjusted,
            "verdict": verdict,
            "warnings": [],
        }

    head = make_head("counterfactuals", -11.4, 420, "signal")
    del head["n_tokens"], head["n_powered"]
    return {
        **head,
        "counterfactuals": "same-key",
        "null_hypothesis": "Which answer was logged is independent of the suspect.",
        "assumption": "The other answers were drawn as the logged one was.",
        "statistic": 2310.5,
        "lowest_log10_p": -300.0,
        "e_process": {"log10_e": 9.2, "log10_p": -9.2},
        "unit": "answers",
        "n_answers": 431,
        "key_id": ["hm1-3f0c9a41d2b7", "hm1-77aa9a41d2b7"],
        "accounts": [account("acme", -12.6, "signal"), account("blue", -0.2, "inconclusive")],
        "controls": [{"name": "twin", "p_value": 0.5, "log10_p": math.log10(0.5)}],
        "warnings": [],
        "suspect": "student",
    }


def make_trace_text() -> dict[str, Any]:
    def shown(index: int) -> dict[str, Any]:
        name = f"m/2026-11/a{index:05d}"
        labels = {"model": "m", "epoch": "2026-11", "account": f"a{index:05d}"}
        return {"account": name, "labels": labels, "key_id": f"hm1-{index:020x}"}

    def ranked(index: int, log10_p: float, n_documents: int) -> dict[str, Any]:
        adjusted = min(log10_p + math.log10(50_000), 0.0)
        return {
            **shown(index),
            "statistic": 900.5 - index,
            "p_value": 10**log10_p,
            "log10_p": log10_p,
            "log10_p_adjusted": adjusted,
            "n_documents": n_documents,
            "log10_p_documents": -9.5 if n_documents else 0.0,
            "named": adjusted <= -6,
            "named_revoked": False,
            "revoked": False,
            "revoked_at": None,
            "revoked_reason": None,
        }

    def document(index: int, log10_p: float) -> dict[str, Any]:
        account, adjusted = shown(index % 2), min(log10_p + 6.7, 0.0)
        return {
            "id": f"doc-{index:03d}",
            "source": "leak.jsonl",
            "n_tokens": 300,
            "n_scored": 287,
            "account": account["account"],
            "key_id": account["key_id"],
            "statistic": 401.25,
            "p_value": 10**log10_p,
            "log10_p": log10_p,
            "log10_p_adjusted": adjusted,
            "named": [account["account"]] if adjusted <= -6 else [],
            "named_revoked": [],
            "verdict": "signal" if adjusted <= -6 else "inconclusive",
        }

    def share(estimate: float) -> dict[str, float]:
        ends = {"low": estimate - 0.041, "high": estimate + 0.043}
        return {"estimate": estimate, **ends, "level": 0.95}

    documents = [document(index, -21.0 + 2 * index) for index in range(9)]
    return {
        **make_head("trace_text", -80.1, 2511, "signal"),
        "statistic": 900.5,
        "score": "typical",
        "context_width": 2,
        "n_keys": 25_000,
        "n_searches": 2,
        "named": [shown(0)["account"], shown(1)["account"]],
        "named_revoked": [],
        "ranking": [ranked(0, -84.8, 3), ranked(1, -31.2, 2), ranked(7, -4.4, 0)],
        "documents": documents,
        "n_documents": 9,
        "n_documents_named": sum(bool(d["named"]) for d in documents),
        "shares": {
            "accounts": [
                {**shown(0), **share(0.41)},
                {**shown(1), **share(0.027)},
            ],
            "rest": share(0.563),
            "reference": {"strength": 0.41, "strength_standard_error": 0.01, "n_documents": 50},
            "n_scored": 2498,
            "n_documents": 9,
        },
        "decoys": {
            "n_decoys": 999,
            "n_keys": 25_000,
            "n_at_least": 0,
            "rank": 1,
            "p_value": 0.001,
            "n_sampled": 2511,
            "log10_p_adjusted": -80.4,
            "seed": 0,
        },
        "seed": 0,
        "curve": None,
        "warnings": [],
    }


def make_trace_model() -> dict[str, Any]:
    def key(epoch: str, cohort: int, log10_p: float) -> dict[str, Any]:
        adjusted = min(log10_p + math.log10(8), 0.0)
        labels = {"model": "m", "epoch": epoch, "cohort": f"c{cohort}"}
        control = {"name": "twin", "role": "control", **make_claim(-0.4, 15_000, "no_signal")}
        return {
            "name": "/".join(labels.values()),
            "labels": labels,
            "key_id": f"hm1-{epoch}-{cohort}",
            "p_value": 10**log10_p,
            "log10_p": log10_p,
            "log10_p_ceiling": log10_p,
            "log10_p_adjusted": adjusted,
            "statistic": -68.8,
            "z": 6.44 if log10_p < -6 else 0.31,
            "n_scored": 15_051,
            "verdict": "signal" if adjusted <= -6 else "inconclusive",
            **{"named_revoked": False, "revoked": False},
            **{"revoked_at": None, "revoked_reason": None},
            "decoys": {"n_decoys": 999, "p_value": 0.001 if log10_p < -6 else 0.5, "seed": 0},
            "controls": [{**control, "fires": False, "note": ""}],
        }

    cohorts = [key(e, c, -0.2 - c / 9) for e in ("2026-10", "2026-11") for c in range(4)]
    cohorts[6] = key("2026-11", 2, -18.6)
    pooled = {"p_value": 0.025, "log10_p": -1.6, "log10_p_adjusted": -1.6, "z": 1.97}
    return {
        **make_head("trace_model", -17.7, 15_051, "signal"),
        "access": "text",
        "suspect": "answers.jsonl",
        "n_answers": 250,
        "decoys": {"n_decoys": 999, "p_value": 0.001, "seed": 0},
        "level_of_each": 5e-7,
        "conclusion": "one_key",
        "conclusion_in_words": "The suspect depends on m/2026-11/c2 (p = 2e-18), and on it alone.",
        "best": "m/2026-11/c2",
        "named_revoked": [],
        "cohorts": cohorts,
        "spread": {
            "n_significant": 1,
            "pooled": {**pooled, "method": "exact"},
            "others": {**pooled, "log10_p_adjusted": 0.0, "method": "exact"},
            "concentration": {
                "p_value": 1e-9,
                "log10_p": -9.9,
                "log10_p_adjusted": -9.0,
                "method": "e-value",
                "z": 5.8,
                "share_at_least": 0.71,
                "by_traffic": True,
                "traffic_share": 0.125,
                "share_allowed": 0.413,
                "presumed_documents": 100,
                "documents_needed": 84,
                "by_documents": [
                    {"documents": 10, "log10_p": -0.72},
                    {"documents": 1000, "log10_p": -72.0},
                ],
            },
        },
        "controls": [
            {"name": "base", "role": "control", "log10_p": -0.34, "z": 0.12, "fires": False}
        ],
        "reading": None,
        "used": {"reference": None, "sampling": {"max_new_tokens": 96, "temperature": 1.0}},
        "curve": make_curve(-18.6, 15_051),
        "warnings": [],
    }


MAKERS = {
    "text": make_text,
    "corpus": make_corpus,
    "probe": make_probe,
    "demo": make_demo,
    "segments": make_segments,
    "fraction": make_fraction,
    "watch": make_watch,
    "power": make_power,
    "calibration": make_calibration,
    "profiles": make_profiles,
    "counterfactuals": make_counterfactuals,
    "trace_text": make_trace_text,
    "trace_model": make_trace_model,
}
KINDS = tuple(MAKERS)


def make_result(kind: str) -> dict[str, Any]:
    """Return a small result of a kind."""
    return MAKERS[kind]()
