"""`heirmark power` through click: summary, JSON, pilots, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from detect.commands.power import power
from detect.reporting import render_report
from tests.detect.evidence.fitting import check_fit
from tests.detect.reporting.numbers import check_numbers
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.errors import WatermarkError
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(power, [str(a) for a in arguments])


def test_it_says_what_is_out_of_reach() -> None:
    done = _run("--access", "text", "--share", "0.1", "--budget", "500000")
    assert done.exit_code == 0
    assert "NOT ENOUGH" in done.stdout
    assert "NOT       one account key of 25,000" in done.stdout
    assert "does not carry over" in done.stdout
    assert "in reach  all training data marked" in done.stdout


def test_json_and_output_are_the_same(tmp_path: Path) -> None:
    done = _run("--access", "weights", "--json", "--output", tmp_path / "p.json")
    payload = json.loads(done.stdout)
    check_numbers(render_report(payload), payload)
    assert payload == json.loads((tmp_path / "p.json").read_text())
    check_fit(payload)
    assert payload["detectable"]
    assert payload["n_tokens"] < payload["budget"]
    assert payload["basis"]["source"]
    needs = {need["share"]: need["n_tokens"] for need in payload["by_share"]}
    assert needs[1.0] == payload["n_tokens"]
    # By weights the need grows with the inverse square of the share.
    assert needs[0.01] == pytest.approx(1e4 * needs[1.0], rel=1e-3)
    assert "the budget has them" in render_report(payload)


def test_a_corpus_and_its_result_are_pilots(
    tmp_path: Path, tokenizer: TextTokenizer, tokenizer_folder: Path
) -> None:
    config, corpus = preset("gumbel"), tmp_path / "marked.jsonl"
    save_key(KEY, tmp_path / "k.json")
    texts = [marked_ids(config, KEY, 60, vocabulary=tokenizer.vocab_size, seed=i) for i in range(6)]
    corpus.write_text("".join(json.dumps({"token_ids": t.tolist()}) + "\n" for t in texts))
    options: list[str | Path] = ["--preset", "gumbel", "--pilot", corpus, "--json"]
    test: list[str | Path] = ["--key", tmp_path / "k.json", "--tokenizer", tokenizer_folder]
    done = _run(*options, *test)
    assert done.exit_code == 0, done.output
    payload = json.loads(done.stdout)
    check_fit(payload)
    low, high = payload["n_scored_range"]
    assert low <= payload["n_scored"] <= high
    assert payload["score"] == "typical"
    assert _run(*options).exit_code == 2


def test_a_result_of_detect_is_a_pilot(tmp_path: Path) -> None:
    result = {
        "kind": "text", "scheme": "dual-gumbel", "context_width": 2, "score": "own",
        "n_tokens": 120, "n_scored": 100, "statistic": 180.0,
    }  # fmt: skip
    path = tmp_path / "r.json"
    path.write_text(json.dumps(result))
    done = _run("--pilot", path)
    assert done.exit_code == 0, done.output
    assert "a single text" in done.stdout
    assert _run("--pilot", path, "--score", "own").exit_code == 2
    refused = _run("--pilot", path, "--preset", "gumbel")
    assert isinstance(refused.exception, WatermarkError)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--access", "text", "--entropy", "2"],
        ["--access", "text", "--score", "weak"],
        ["--share", "0"],
        ["--access", "mind"],
        ["--entropy", "2", "--temperature", "1"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert _run(*arguments).exit_code == 2
