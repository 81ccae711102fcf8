"""A case to be bundled: keys, a signer, a tokenizer with one token a word, texts and corpora."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from detect.evidence import apart
from detect.evidence.checks import Verification
from detect.evidence.limits import Limits
from detect.evidence.request import VerifyRequest
from detect.evidence.signing_keys import save_signing_key
from detect.evidence.verifying import verify_bundle
from tests.detect.evidence.acts import bundled
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

KEY: Final = SecretKey(bytes(range(1, 33)))
WORDS: Final = [f"w{i:03d}" for i in range(300)]


@pytest.fixture
def in_its_own_process() -> None:
    """Verify as people do."""


@pytest.fixture(autouse=True)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify in this process, which spares a second a test, unless the test asks otherwise."""

    def verify_here(asked: VerifyRequest, limits: Limits) -> Verification:
        return verify_bundle(VerifyRequest.from_json(asked.to_json()))

    if "in_its_own_process" not in request.fixturenames and "HEIRMARK_FUZZ" not in os.environ:
        monkeypatch.setattr(apart, "verify_apart", verify_here)


def _text(n: int, seed: int, *, marked: bool = True) -> str:
    key = KEY if marked else None
    ids = marked_ids(preset("default"), key, n, vocabulary=len(WORDS), seed=seed)
    return " ".join(WORDS[i] for i in ids)


def _lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evidence")
    save_key(KEY, folder / "k.json")
    save_key(SecretKey(bytes(range(2, 34))), folder / "other.json")
    for name in ("s.pem", "t.pem"):
        save_signing_key(Ed25519PrivateKey.generate(), folder / name)
    model = {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(WORDS)}, "unk_token": "w000"}
    content = {"version": "1.0", "added_tokens": [], "normalizer": None, "model": model}
    content["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "text.txt").write_text(_text(400, 0))
    (folder / "prompt.txt").write_text(_text(30, 1, marked=False))
    documents = [_text(60, 10 + i) for i in range(8)]
    _lines(folder / "corpus.jsonl", [{"text": text} for text in documents])
    _lines(folder / "marked.jsonl", [{"text": _text(60, 30 + i)} for i in range(8)])
    (folder / "accounts.txt").write_text("alice\nbob\ncarol\n")
    revoked = {"state": "revoked", "revoked_at": "2026-11-20T10:00:00.000000Z"}
    labels = [{"cohort": "stolen", **revoked}, {"cohort": "a"}, {"cohort": "b"}]
    _lines(folder / "labels.jsonl", labels)
    (folder / "served.json").write_text(json.dumps({"stolen": 500, "a": 300, "b": 400}))
    shelf = folder / "shelf" / "a"
    shelf.mkdir(parents=True)
    for i in range(3):
        (shelf / f"{i}.txt").write_text(_text(50, 50 + i, marked=False))
    answers = [{"prompt": f"p{i}", "text": _text(60, 70 + i)} for i in range(6)]
    _lines(folder / "answers.jsonl", answers)
    _lines(
        folder / "clean.jsonl",
        [{"prompt": f"p{i}", "text": _text(60, 90 + i, marked=False)} for i in range(6)],
    )
    return folder


@pytest.fixture(scope="session")
def whole_case(place: Path) -> Path:
    """A bundle of `detect`, to be copied before anything is done to it."""
    return bundled(place, "whole", "detect", "text.txt")


@pytest.fixture
def case(whole_case: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_case, tmp_path / "case"))
