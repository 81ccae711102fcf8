"""Counterfactuals of a real, tiny model's answers: drawn, kept, scored; what fine-tuning does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from detect.demo.student import Example, Recipe, fine_tune
from detect.results import Verdict
from detect.suspect.counterfactual_test import Sources, assess_logs, exchanges
from detect.suspect.likelihoods import less, mean_log_probs
from detect.suspect.logs import (
    Candidates,
    Kind,
    LoggedAnswer,
    draw_counterfactuals,
    read_candidates,
    read_logs,
)
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.score_files import read_scores
from watermark.config import WatermarkConfig, preset
from watermark.errors import DocumentError, FingerprintError
from watermark.generation.answering import answer_prompts
from watermark.keys import SecretKey
from watermark.storage.files import dump_json

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")
PROMPTS = [f"Count the {thing}, {number}." for thing in ("nets", "lamps") for number in range(16)]
LENGTH = 12


@pytest.fixture(scope="module")
def logs(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = answer_prompts(
        model_folder, PROMPTS, config=CONFIG, key=KEY, max_new_tokens=LENGTH, seed=5
    ).rows
    path = tmp_path_factory.mktemp("logs") / "logs.jsonl"
    path.write_text(
        "".join(json.dumps({**row, "account": "ab"[i % 2]}) + "\n" for i, row in enumerate(rows))
    )
    return path


def _draw(model: Path, answers: list[LoggedAnswer], **changes: Any) -> Candidates:
    options: dict[str, Any] = {
        "config": CONFIG,
        "key": KEY,
        "kind": Kind.SAME_KEY,
        "n": 9,
        "max_new_tokens": LENGTH,
        "seed": 77,
    }
    return draw_counterfactuals(model, answers, **{**options, **changes})


@pytest.fixture(scope="module")
def candidates(model_folder: Path, logs: Path) -> Candidates:
    return _draw(model_folder, read_logs(logs))


def test_a_model_fine_tuned_on_the_answers_is_found_and_an_untouched_one_is_not(
    model_folder: Path, logs: Path, candidates: Candidates, tmp_path: Path
) -> None:
    base = TransformersSuspect(model_folder)
    rows = [json.loads(line) for line in logs.read_text().splitlines()]
    fine_tune(
        model_folder,
        [Example(base.chat_ids(row["prompt"]), row["token_ids"]) for row in rows],
        tmp_path / "student",
        Recipe(epochs=12, learning_rate=5e-3, batch_tokens=256),
        end_id=0,
    )
    wanted = exchanges([candidates])
    clean = mean_log_probs(base, wanted)
    student = mean_log_probs(TransformersSuspect(tmp_path / "student"), wanted)
    found = assess_logs([candidates], Sources(less(student, clean), {"base": clean}), 1e-6)
    assert found.verdict == Verdict.SIGNAL
    assert found.found.process.log10_p < -4
    assert {account.account for account in found.accounts} == {"a", "b"}
    assert all(account.log10_p_adjusted < -3 for account in found.accounts)
    untouched = assess_logs([candidates], Sources(clean, {}), 1e-6)
    assert untouched.found.tail.log10_p > -3
    assert untouched.verdict == Verdict.INCONCLUSIVE


def test_the_file_of_candidates_reads_back(candidates: Candidates, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(dump_json(candidates.to_dict()))
    again = read_candidates(path)
    assert again.to_dict() == candidates.to_dict()
    assert exchanges([again]) == exchanges([candidates])
    assert again.n_unchecked == 0
    path.write_text("{}")
    with pytest.raises(DocumentError, match="counterfactuals draw"):
        read_candidates(path)
    path.write_text(dump_json({**candidates.to_dict(), "answers": [{"prompt": "x"}]}))
    with pytest.raises(DocumentError, match="damaged"):
        read_candidates(path)


def test_coins_are_fresh_and_a_world_has_one_key(model_folder: Path, logs: Path) -> None:
    answers = read_logs(logs)[:2]
    twice = [answers[0], answers[0]]
    same = _draw(model_folder, twice, n=3)
    assert len(set(same.counterfactuals[0])) > 1
    assert same.counterfactuals[0] != same.counterfactuals[1]
    gumbel = preset("gumbel")
    plain = [dataclasses.replace(a, config_fingerprint=None) for a in twice]
    other = _draw(model_folder, plain, n=3, kind=Kind.NEVER_ISSUED, config=gumbel)
    assert [len(texts) for texts in other.counterfactuals] == [3, 3]
    assert other.n_unchecked == 2
    drawn = [_draw(model_folder, twice, n=2, seed=None).settings["seed"] for _ in range(2)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({"key_id": "hm1-other"}, {}, FingerprintError, "each key by itself"),
        ({}, {"key": SecretKey(bytes(32))}, FingerprintError, "each key by itself"),
        ({}, {"config": preset("gumbel")}, FingerprintError, "another config"),
        ({"text": "edited"}, {}, DocumentError, "edited after it"),
        ({"sampling": None}, {"max_new_tokens": 3}, DocumentError, "limit of the logs"),
        ({}, {"temperature": 0.7}, FingerprintError, "drawn with temperature 1.0, .* 0.7: they"),
        ({}, {"top_k": 9}, FingerprintError, "top_k 0, .* top_k 9"),
        ({}, {"max_new_tokens": 9}, FingerprintError, "max_new_tokens"),
    ],
)
def test_what_cannot_be_exchangeable_is_refused(
    model_folder: Path,
    logs: Path,
    change: dict[str, Any],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    longest = max(read_logs(logs), key=lambda answer: len(answer.token_ids or ()))
    with pytest.raises(error, match=message):
        _draw(model_folder, [dataclasses.replace(longest, **change)], **options)


@pytest.mark.parametrize("sampling", [None, {}, {"temperature": 1.0, "top_k": 0}])
def test_sampling_that_was_not_logged_is_counted(
    model_folder: Path, logs: Path, sampling: dict[str, Any] | None
) -> None:
    whole, *_ = read_logs(logs)
    partly = dataclasses.replace(whole, sampling=sampling)
    assert _draw(model_folder, [whole, partly], n=1).n_unchecked == 1


def test_a_config_that_is_bound_already_will_do(model_folder: Path, logs: Path) -> None:
    bound: WatermarkConfig = _draw(model_folder, read_logs(logs)[:1], n=1).config
    assert _draw(model_folder, read_logs(logs)[:1], n=1, config=bound).config == bound


def test_scores_do_not_depend_on_what_is_asked_beside(
    model_folder: Path, candidates: Candidates
) -> None:
    base = TransformersSuspect(model_folder)
    wanted = exchanges([candidates])[:12]
    scores = mean_log_probs(base, [*wanted, (wanted[0][0], "")])
    assert scores[wanted[0][0], ""] == float("-inf")
    assert scores == mean_log_probs(base, [(wanted[0][0], ""), *reversed(wanted), *wanted])
    assert less(scores, scores)[wanted[1]] == 0.0


@pytest.mark.parametrize(
    "line", ["{oops", "[]", '{"prompt": "x"}', '{"prompt": "x", "text": "y", "account": 3}',
             '{"prompt": "x", "text": "y", "token_ids": ["z"]}'],
)  # fmt: skip
def test_damaged_logs_are_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text('{"prompt": "x", "text": "y"}\n' + line + "\n")
    with pytest.raises(DocumentError, match="line 2: expected"):
        read_logs(path)
    path.write_text("\n")
    with pytest.raises(DocumentError, match="is empty"):
        read_logs(path)


def test_scores_are_read_and_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    row = '{"prompt": "x", "text": "y", "score": -1.5}\n'
    path.write_text(row * 2 + "\n")
    assert read_scores(path) == {("x", "y"): -1.5}
    for second in (row.replace("-1.5", "2"), row.replace("-1.5", "NaN"), row.replace("-1.5", "{}")):
        path.write_text(row + second)
        with pytest.raises(DocumentError, match="line 2"):
            read_scores(path)
