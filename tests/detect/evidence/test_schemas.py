"""The published schemas: valid in themselves, and of every result each field is known to them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from detect.cli import heirmark
from detect.evidence.schemas import SCHEMAS, schema, validate
from detect.reporting.words import TOPICS
from detect.results import RESULT_SCHEMA
from tests.detect.evidence.fitting import check_fit
from watermark.errors import EvidenceError


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$id"] == f"urn:heirmark:schema:{name}"


def _payload(words: list[str]) -> dict[str, Any]:
    done = CliRunner().invoke(heirmark, words)
    assert done.exit_code == 0, (done.output, done.exception)
    payload: dict[str, Any] = json.loads(done.stdout)
    assert payload["schema"] == RESULT_SCHEMA
    return payload


def test_what_scores_nothing_fits(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    options = ["--key", str(place / "k.json"), "--tokenizer", str(place / "tokenizer.json")]
    for command in ("detect", "locate"):
        check_fit(_payload([command, str(tmp_path / "empty.txt"), *options, "--json"]))


def test_profiles_fit(place: Path, tmp_path: Path) -> None:
    served = ["--key", str(place / "k.json"), "--tokenizer", str(place / "tokenizer.json")]
    path = tmp_path / "served" / "a.profile.json"
    words = ["profile", str(path), "--name", "a", "--engine", "x", "--preset", "default", *served]
    assert CliRunner().invoke(heirmark, words).exit_code == 0
    shutil.copy(place / "k.json", path.parent / "k.key.json")
    payload = _payload(
        ["detect", str(place / "text.txt"), "--profiles", str(path.parent), "--json"]
    )
    assert payload["kind"] == "profiles"
    check_fit(payload)


def test_every_kind_that_has_a_page_has_a_schema() -> None:
    kinds = schema("result-1")["properties"]["kind"]["enum"]
    assert set(TOPICS) <= set(kinds)


@pytest.mark.parametrize(
    ("change", "place_of_error"),
    [
        ({"kind": "gossip"}, "kind"),
        ({"p_value": 1.5}, "p_value"),
        ({"p_value": "0.5"}, "p_value"),
        ({"verdict": "guilty"}, "verdict"),
        ({"n_scored": -1}, "n_scored"),
        ({"n_scored": 1.5}, "n_scored"),
        ({"key_id": "secret"}, "key_id"),
        ({"decoys": {"n_decoys": 0}}, "decoys"),
        ({"schema": "heirmark-result-2"}, "schema"),
    ],
)
def test_what_is_no_result_is_named(
    change: dict[str, Any], place_of_error: str, whole_case: Path
) -> None:
    payload = json.loads((whole_case / "result.json").read_text())
    validate(payload, "result-1", "it")
    with pytest.raises(EvidenceError, match=f"result-1: .*{place_of_error}"):
        validate({**payload, **change}, "result-1", "it")


def test_a_lacking_field_is_named(whole_case: Path) -> None:
    payload = json.loads((whole_case / "result.json").read_text())
    for name in ("log10_p", "verdict", "alpha", "limits", "key_id"):
        less = {k: v for k, v in payload.items() if k != name}
        with pytest.raises(EvidenceError, match=name):
            validate(less, "result-1", "it")
