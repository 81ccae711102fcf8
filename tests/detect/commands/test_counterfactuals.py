"""`heirmark counterfactuals`: from logs to a verdict, through files, on a real tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from detect.commands.counterfactuals import counterfactuals
from detect.reporting.page import render_report
from tests.detect.evidence.fitting import check_fit
from tests.detect.reporting.numbers import check_numbers
from tests.tiny_model import write_model
from watermark.config import preset
from watermark.errors import WatermarkError
from watermark.generation.answering import answer_prompts
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey
from watermark.tokens import load_tokenizer

KEY = SecretKey(bytes(range(32)))


@pytest.fixture(scope="module")
def folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counterfactuals")
    save_key(KEY, folder / "k.json")
    prompts = [f"Count the nets, {i}." for i in range(10)]
    rows = answer_prompts(
        model_folder, prompts, config=preset("default"), key=KEY, max_new_tokens=8, seed=3
    ).rows
    lines = [json.dumps({**row, "account": "alice"}) + "\n" for row in rows]
    (folder / "logs.jsonl").write_text("".join(lines))
    _done("draw", folder / "logs.jsonl", *_options(model_folder, folder), "-n", "5")
    return folder


def _options(model_folder: Path, folder: Path) -> list[str | Path]:
    return [
        "--model", model_folder, "--key", folder / "k.json", "--max-new-tokens", "8",
        "-o", folder / "c.json",
    ]  # fmt: skip


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(counterfactuals, list(map(str, arguments)))


def _done(*arguments: str | Path) -> str:
    result = _run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_a_suspect_is_read_with_reference_and_control(
    folder: Path, model_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    output = _done(
        "test", folder / "c.json", "--suspect", model_folder, "--control", model_folder, "--json"
    )
    payload = json.loads(output)
    check_fit(payload)
    assert payload["kind"] == "counterfactuals"
    assert payload["suspect"] == model_folder.name
    assert payload["verdict"] == "inconclusive"
    assert payload["key_id"] == KEY.key_id
    assert "Exchangeability" in payload["assumption"]
    assert payload["n_answers"] == 10
    assert payload["accounts"][0]["account"] == "alice"
    output = _done("test", folder / "c.json", "--suspect", model_folder)
    assert "account   alice" in output
    assert "add at least one with --control" in output
    other = write_model(
        tmp_path / "other",
        tokenizer_folder,
        vocabulary=load_tokenizer(tokenizer_folder).vocab_size,
        n_positions=256,
        architecture="qwen2",
    )
    against = ["--suspect", model_folder, "--reference", other, "--control", other, "--json"]
    less = json.loads(_done("test", folder / "c.json", *against))
    # The coins are fresh, and two sums of ranks may be equal by chance; not all of it.
    told = ("log10_p", "e_process", "accounts")
    assert [less[name] for name in told] != [payload[name] for name in told]
    assert [control["name"] for control in less["controls"]] == ["other"]


def test_a_suspect_is_not_ranked_by_the_rounding_of_its_own_reference(
    folder: Path, model_folder: Path
) -> None:
    same = ["--suspect", model_folder, "--reference", f"{model_folder}/."]
    refused = _run("test", folder / "c.json", *same)
    assert isinstance(refused.exception, WatermarkError)
    assert "the same model" in str(refused.exception)


def test_listed_texts_can_be_scored_elsewhere(folder: Path, model_folder: Path) -> None:
    _done("list", folder / "c.json", "-o", folder / "t.jsonl")
    logged = {json.loads(line)["text"] for line in _lines(folder / "logs.jsonl")}
    rows = [json.loads(line) for line in _lines(folder / "t.jsonl")]
    assert logged <= {row["text"] for row in rows}
    scored = [{**row, "score": float(row["text"] in logged)} for row in rows]
    (folder / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    asked = ["test", folder / "c.json", "--scores", folder / "s.jsonl", "--alpha", "0.01", "--json"]
    alone = json.loads(_done(*asked))
    assert alone["verdict"] == "inconclusive"
    assert {account["verdict"] for account in alone["accounts"]} <= {"inconclusive"}
    payload = json.loads(_done(*asked, "--control", model_folder))
    assert "accounts[0].log10_p_adjusted" in check_numbers(render_report(payload), payload)
    assert payload["suspect"] == "scores given"
    assert payload["log10_p"] == pytest.approx(payload["lowest_log10_p"])
    assert payload["verdict"] == "signal"
    (folder / "s.jsonl").write_text(json.dumps(scored[0]) + "\n")
    failed = _run("test", folder / "c.json", "--scores", folder / "s.jsonl")
    assert isinstance(failed.exception, WatermarkError)
    assert "have no score" in str(failed.exception)


def test_of_two_controls_of_one_name_neither_is_lost(
    folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    """One that fires must not hide behind one that does not."""
    twin = shutil.copytree(model_folder, tmp_path / model_folder.name)
    payload = json.loads(
        _done(
            "test",
            folder / "c.json",
            "--suspect",
            model_folder,
            "--control",
            model_folder,
            "--control",
            twin,
            "--json",
        )
    )
    assert [control["name"] for control in payload["controls"]] == [model_folder.name] * 2
    assert payload["controls"][0]["log10_p"] == payload["log10_p"]
    assert str(tmp_path) not in json.dumps(payload)


def test_wrong_usage_exits_with_2(folder: Path) -> None:
    for arguments in (
        ["test", folder / "c.json"],
        ["test", folder / "c.json", "--suspect", "x", "--scores", "y"],
        ["test", folder / "c.json", "--scores", "y", "--reference", "x"],
        ["draw", folder / "logs.jsonl"],
    ):
        assert _run(*arguments).exit_code == 2
