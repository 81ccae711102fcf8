"""The provider's logs: drawn once, and ranked by who learned them and by who did not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.inheritance import by_logs
from benchmarks.inheritance.lessons import LESSONS
from benchmarks.inheritance.stages import Stages
from detect.suspect.counterfactual_test import exchanges
from detect.suspect.likelihoods import Exchange
from detect.suspect.logs import Candidates, Kind, LoggedAnswer

SIZES = {Kind.SAME_KEY: (60, 3), Kind.NEVER_ISSUED: (10, 19)}


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    """Candidates as a run keeps them, of made-up texts of one length."""
    source = LESSONS["dual h=2"]
    assert source.config is not None
    for kind, (n, n_others) in SIZES.items():
        answers = tuple(LoggedAnswer(f"Tell {i}.", f"logged {i:03}") for i in range(n))
        others = tuple(
            tuple(f"{kind.value[0]}-{j:02} {i:05}" for j in range(n_others)) for i in range(n)
        )
        drawn = Candidates(kind, source.key.key_id, source.config, {}, answers, others, 0)
        path = tmp_path / by_logs.candidates_file(kind)
        path.write_text(json.dumps(drawn.to_dict()), "utf-8")
    return Stages(tmp_path)


def _scores(stages: Stages, seed: int, liked: float = 0.0) -> dict[Exchange, float]:
    rng = np.random.default_rng(seed)
    wanted = exchanges([by_logs.candidates(stages, kind) for kind in Kind])
    return {e: float(rng.normal()) + liked * e[1].startswith("logged") for e in wanted}


def test_who_learned_the_logs_ranks_them_first_and_innocents_do_not(stages: Stages) -> None:
    base = _scores(stages, 1)
    # The student is its base with what it learned on top: alone it tells less.
    student = {e: s + 0.5 * e[1].startswith("logged") for e, s in base.items()}
    scores = {"base": base, "innocent": _scores(stages, 2), "student": student}
    found = by_logs.test_logs(stages, scores, "student")
    assert list(found) == [kind.value for kind in Kind]
    for kind, (n, n_others) in SIZES.items():
        of_kind = found[kind.value]
        assert (of_kind["n_answers"], of_kind["n_others"]) == (n, n_others)
        best = of_kind["ours, public base"]
        assert best["log10_p"] == pytest.approx(best["lowest_log10_p"])
        assert best["log10_p"] <= of_kind["ours, no reference"]["log10_p"]
        for method in ("ours, no reference", "ours, public base"):
            assert of_kind[method]["controls"].keys() == {"base", "innocent"}
            assert min(of_kind[method]["controls"].values()) > -3
    same, never = (found[kind.value]["ours, public base"] for kind in Kind)
    assert same["lowest_log10_p"] == pytest.approx(60 * math.log10(1 / 4))
    assert same["verdict"] == "signal"
    assert never["lowest_log10_p"] == pytest.approx(math.log10(1 / 20))
    assert never["verdict"] == "inconclusive"


def test_the_base_is_not_read_against_itself(stages: Stages) -> None:
    scores = {"base": _scores(stages, 1), "innocent": _scores(stages, 2)}
    found = by_logs.test_logs(stages, scores, "base")
    for kind in Kind:
        assert found[kind.value].keys() == {"n_answers", "n_others", "ours, no reference"}
        assert found[kind.value]["ours, no reference"]["controls"].keys() == {"innocent"}


def test_scores_are_kept_exactly(stages: Stages) -> None:
    class Model:
        """Never opened twice."""

    wanted = exchanges([by_logs.candidates(stages, kind) for kind in Kind])
    rows = [[*e, -math.inf if i == 0 else -1 / (i + 3)] for i, e in enumerate(wanted)]
    (stages.folder / "scores-known.json").write_text(json.dumps({"scores": rows}), "utf-8")

    def unopened() -> Model:
        raise AssertionError("the scores were there")

    found = by_logs.scores_of(stages, "known", unopened)  # type: ignore[arg-type]
    assert found == {tuple(row[:2]): row[2] for row in rows}


def test_samples_are_nested_and_of_what_the_student_learned(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [{"prompt": str(i)} for i in range(720)]
    monkeypatch.setattr(by_logs, "lesson", lambda stages, name: logs)
    large, small = ([int(row["prompt"]) for row in by_logs._sample(stages, n)] for n in (60, 10))
    assert len(set(large)) == 60
    assert set(small) < set(large)
    assert large == sorted(large)
    assert max(large) < 360
