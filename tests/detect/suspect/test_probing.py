"""The probe as the command runs it: files in, models opened, controls beside, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from detect.suspect.probing import ProbeRequest, run_probe
from tests.conftest import PARAGRAPH
from tests.detect.synthetic import marked_ids
from tests.tiny_model import write_gguf
from watermark.config import preset
from watermark.errors import ConfigError, DocumentError, FingerprintError, ResultError
from watermark.keys import SecretKey
from watermark.tokens import load_tokenizer


@contextmanager
def silent(total: int | None, description: str, unit: str) -> Iterator[Any]:
    with tqdm(disable=True) as bar:
        yield bar


def _request(suspect: Path, tokenizer: Path, **changes: Any) -> ProbeRequest:
    request = ProbeRequest(
        suspect=str(suspect),
        access="text",
        controls=(str(suspect),),
        reference=None,
        config=preset("default"),
        key=SecretKey(bytes(32)),
        tokenizer=str(tokenizer),
        alpha=1e-6,
        n_decoys=99,
        seed=3,
        score=None,
        max_new_tokens=24,
        temperature=1.0,
        top_k=0,
    )
    return replace(request, **changes)


@pytest.fixture
def sibling(model_folder: Path, tmp_path: Path) -> Path:
    return _shifted(model_folder, tmp_path / "sibling")


def _shifted(source: Path, folder: Path) -> Path:
    """A model with other weights and the same tokenizer."""
    import torch
    from transformers import LlamaForCausalLM

    shutil.copytree(source, folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.05)
    model.save_pretrained(folder)
    return folder


def _reading(folder: Path) -> str:
    path = folder / "reading.jsonl"
    rows = [{"prompt": f"Prompt {i}", "text": PARAGRAPH[i : i + 120]} for i in range(0, 150, 30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_an_innocent_model_is_not_accused_by_text(
    model_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("Count the nets.\nWho was quiet?\n")
    payload = run_probe(_request(model_folder, tokenizer_folder), str(path), None, silent).to_dict()
    assert payload["suspect"] == payload["controls"][0]["name"] == "tiny"
    assert payload["verdict"] != "signal"
    assert payload["n_scored"] > 0
    assert payload["p_value"] > 1e-4
    assert payload["controls"][0]["log10_p"] == payload["log10_p"]


def test_an_innocent_model_is_not_accused_by_weights(
    model_folder: Path, sibling: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    request = _request(
        sibling,
        tokenizer_folder,
        access="weights",
        reference=str(model_folder),
        controls=(str(model_folder),),
    )
    payload = run_probe(request, None, _reading(tmp_path), silent).to_dict()
    assert payload["verdict"] != "signal"
    assert payload["p_value"] > 1e-4
    assert "it is the reference" in payload["controls"][0]["note"]
    assert payload["spread"]["n_contexts"] > 20


@pytest.mark.parametrize("access", ["text", "weights"])
def test_a_gguf_file_says_what_its_folder_says(
    access: Any,
    model_folder: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights are the same; the tokenizer is rebuilt, and the provider's is used."""
    monkeypatch.setenv("HEIRMARK_CACHE", str(tmp_path / "cache"))
    path = write_gguf(model_folder, tmp_path / "tiny.gguf")
    (tmp_path / "prompts.txt").write_text("Count the nets.\nWho was quiet?\n")
    prompts, reading = str(tmp_path / "prompts.txt"), _reading(tmp_path)
    found = [
        run_probe(
            _request(suspect, tokenizer_folder, access=access), prompts, reading, silent
        ).to_dict()
        for suspect in (path, model_folder)
    ]
    assert [payload["suspect"] for payload in found] == ["tiny.gguf", "tiny"]
    assert found[0]["log10_p"] == found[1]["log10_p"]
    assert found[0]["n_scored"] == found[1]["n_scored"] > 0


def test_a_suspect_with_its_own_tokenizer_is_read_by_weights(
    model_folder: Path, foreign_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """Its reference has its tokenizer; a control that has the provider's is read without it."""
    request = _request(
        foreign_folder,
        tokenizer_folder,
        access="weights",
        reference=str(_shifted(foreign_folder, tmp_path / "base")),
        controls=(str(model_folder),),
    )
    payload = run_probe(request, None, _reading(tmp_path), silent).to_dict()
    assert payload["verdict"] != "signal"
    assert payload["p_value"] > 1e-4
    assert payload["reasons"]["token_begins_elsewhere"] > 0
    assert payload["spread"]["n_contexts"] > 20
    assert "another tokenizer" in payload["controls"][0]["note"]
    with pytest.raises(FingerprintError, match="with the suspect's tokenizer"):
        run_probe(replace(request, reference=str(model_folder)), None, _reading(tmp_path), silent)


def test_marked_texts_need_the_provider_s_tokenizer(
    foreign_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_text(json.dumps({"prompt": "Go.", "text": "So.", "token_ids": [5, 6, 7]}) + "\n")
    request = _request(foreign_folder, tokenizer_folder, access="weights", marked_reading=path)
    with pytest.raises(FingerprintError, match="--access text"):
        run_probe(request, None, None, silent)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ('{"prompt": "x", "text": 3}\n', "line 1"), ("{oops\n", "line 1")],
)
def test_damaged_reading_files_are_named(
    content: str, message: str, model_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "reading.jsonl"
    path.write_text(content)
    request = _request(model_folder, tokenizer_folder, access="weights")
    with pytest.raises(DocumentError, match=message):
        run_probe(request, None, str(path), silent)


def test_a_public_model_and_own_texts_serve_a_probe_by_text(
    model_folder: Path, sibling: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    path, own = tmp_path / "prompts.txt", tmp_path / "own.jsonl"
    path.write_text("Count the nets.\nWho was quiet?\n")
    own.write_text(json.dumps({"text": PARAGRAPH}) + "\n")
    request = _request(sibling, tokenizer_folder, reference=str(model_folder), own_texts=own)
    payload = run_probe(request, str(path), None, silent).to_dict()
    assert payload["score"] == "reference, weighted by contexts"
    assert payload["method"] == "exact"
    assert payload["verdict"] != "signal"
    assert payload["decoys"]["n_decoys"] == 99
    assert payload["used"]["reference"] == "tiny"
    assert payload["used"]["own_texts"].startswith("sha256:")
    assert any("choosing among references" in limit for limit in payload["limits"])
    assert str(tmp_path) not in json.dumps(payload)


def test_an_answer_beyond_the_reference_is_cut_for_it(
    model_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """A suspect decides how much it says; nothing that was paid for may be lost for it."""
    path = tmp_path / "answers.jsonl"
    rows = [{"prompt": "Count.", "text": PARAGRAPH * 9}, {"prompt": "Who?", "text": PARAGRAPH}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = _request(path, tokenizer_folder, reference=str(model_folder), controls=())
    payload = run_probe(request, None, None, silent).to_dict()
    assert payload["score"] == "reference"
    assert payload["n_tokens"] > 256
    assert payload["verdict"] != "signal"


def test_a_suspect_is_not_its_own_reference(
    model_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    path = _reading(tmp_path)
    request = _request(
        model_folder, tokenizer_folder, access="weights", reference=f"{model_folder}/."
    )
    with pytest.raises(ConfigError, match="same model"):
        run_probe(request, None, path, silent)


@pytest.mark.parametrize("access", ["logprobs", "weights"])
def test_distributions_without_context_are_refused(
    tokenizer_folder: Path, tmp_path: Path, access: Any
) -> None:
    request = _request(
        tmp_path / "never-opened", tokenizer_folder, config=preset("unigram"), access=access
    )
    with pytest.raises(ResultError, match="without context"):
        run_probe(request, None, None, silent)


@pytest.mark.parametrize(
    ("preset_name", "changes", "message"),
    [
        ("red-green", {"reference": "MODEL"}, "made for gumbel"),
        ("default", {"score": "own", "own_texts": "OWN"}, "cannot be weighted"),
        ("unigram", {"own_texts": "OWN"}, "no contexts"),
    ],
)
def test_what_cannot_be_scored_is_said_before_anything_is_asked(
    model_folder: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
    preset_name: str,
    changes: dict[str, str],
    message: str,
) -> None:
    (tmp_path / "own.jsonl").write_text(json.dumps({"text": PARAGRAPH}) + "\n")
    places = {"MODEL": str(model_folder), "OWN": tmp_path / "own.jsonl"}
    request = _request(
        tmp_path / "never-opened",
        tokenizer_folder,
        config=preset(preset_name),
        **{name: places.get(value, value) for name, value in changes.items()},
    )
    path = tmp_path / "prompts.txt"
    path.write_text("Count the nets.\n")
    with pytest.raises(ConfigError, match=message):
        run_probe(request, str(path), None, silent)


def test_own_texts_under_the_tested_key_are_refused(
    model_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    own, path = tmp_path / "own.jsonl", tmp_path / "prompts.txt"
    path.write_text("Count the nets.\n")
    request = _request(model_folder, tokenizer_folder, own_texts=own)
    own.write_text(json.dumps({"text": PARAGRAPH, "key_id": request.key.key_id}) + "\n")
    with pytest.raises(ResultError, match="names the key under test"):
        run_probe(request, str(path), None, silent)
    tokenizer = load_tokenizer(tokenizer_folder)
    ids = marked_ids(request.config, request.key, 200, vocabulary=tokenizer.vocab_size, seed=1)
    own.write_text(json.dumps({"text": tokenizer.decode(ids.tolist())}) + "\n")
    with pytest.raises(ResultError, match="carry the mark"):
        run_probe(request, str(path), None, silent)


def test_marked_texts_are_read_by_their_drawn_ids(
    model_folder: Path, sibling: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    path, request = tmp_path / "marked.jsonl", _request(sibling, tokenizer_folder)
    tokenizer = load_tokenizer(tokenizer_folder)
    ids = marked_ids(request.config, request.key, 80, vocabulary=tokenizer.vocab_size, seed=1)
    row = {"prompt": "Go on.", "text": tokenizer.decode(ids.tolist()), "token_ids": ids.tolist()}
    path.write_text(json.dumps(row) + "\n")
    request = replace(
        request,
        access="weights",
        marked_reading=path,
        reference=str(model_folder),
        controls=(str(model_folder),),
    )
    payload = run_probe(request, None, None, silent).to_dict()
    assert payload["method"] == "e-process"
    assert payload["verdict"] != "signal"
    assert any("drawn token by token" in limit for limit in payload["limits"])
    del row["token_ids"]
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DocumentError, match="answer 1 has no"):
        run_probe(request, None, None, silent)
