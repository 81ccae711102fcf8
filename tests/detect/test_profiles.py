"""A search over deployments: the right one is named, and the search is paid for."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from detect.cli import heirmark
from detect.profiles import search_profiles
from detect.reporting import render_report
from detect.results import Tail, Verdict
from detect.text import assess_text
from tests.detect.reporting.numbers import check_numbers
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.engine_settings import engine_config
from watermark.errors import ConfigError
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey
from watermark.profiles import Profile, ServedProfile
from watermark.tokens import TextTokenizer

MASTER = SecretKey(bytes(range(32)))
PRESETS = ("default", "gumbel", "red-green", "tournament")


def _served(n: int) -> list[ServedProfile]:
    served = []
    for i in range(n):
        key = MASTER.derive(epoch=f"{i}")
        config = preset(PRESETS[i % len(PRESETS)])
        profile = Profile(f"deployment {i}", "heirmark", "smollm2", key.key_id, config)
        served.append(ServedProfile(profile, key))
    return served


def _text(served: ServedProfile, tokenizer: TextTokenizer, n: int, seed: int = 0) -> str:
    ids = marked_ids(
        served.profile.config, served.key, n, vocabulary=tokenizer.vocab_size, seed=seed
    )
    return tokenizer.decode(ids.tolist())


@pytest.mark.parametrize("right", [0, 1, 4, 7])
def test_the_deployment_that_made_a_text_is_named(tokenizer: TextTokenizer, right: int) -> None:
    served = _served(8)
    text = _text(served[right], tokenizer, 500)
    search = search_profiles(text, served, tokenizer_of=lambda name: tokenizer)
    assert search.verdict is Verdict.SIGNAL
    assert search.best.profile.name == f"deployment {right}"
    named = [p for p in search.profiles if p.result.finding.verdict is Verdict.SIGNAL]
    assert [p.profile.name for p in named] == [f"deployment {right}"]


def test_the_p_value_is_the_smallest_times_their_number(tokenizer: TextTokenizer) -> None:
    served = _served(6)
    text = _text(served[1], tokenizer, 300)
    search = search_profiles(text, served, tokenizer_of=lambda name: tokenizer, alpha=1e-3)
    profile, key = served[1]
    alone = assess_text(text, tokenizer=tokenizer, config=profile.config, key=key, alpha=1e-3)
    own = alone.finding.tail.log10_p
    payload = search.to_dict(tokens=False)
    check_numbers(render_report(payload), payload)
    assert payload["log10_p"] == pytest.approx(own + math.log10(6))
    assert payload["alpha"] == 1e-3
    assert payload["profiles"][1]["log10_p"] == own
    assert payload["profile"] == "deployment 1"


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (date(2026, 11, 1), date(2026, 11, 30), "from 2026-11-01 until 2026-11-30"),
        (date(2026, 11, 1), None, "from 2026-11-01"),
        (None, date(2026, 11, 30), "until 2026-11-30"),
        (None, None, ""),
    ],
)
def test_results_and_report_say_when_it_was_served(
    tokenizer: TextTokenizer, first: date | None, last: date | None, said: str
) -> None:
    one, key = _served(1)[0]
    served = [ServedProfile(replace(one, served_from=first, served_until=last), key)]
    search = search_profiles("some text", served, tokenizer_of=lambda name: tokenizer)
    payload = search.to_dict(tokens=False)
    assert payload["profiles"][0]["served"] == said
    page = render_report(payload)
    assert f"served {said}" in page if said else "served from" not in page


def test_a_contradicted_profile_is_not_named_in_anothers_place(tokenizer: TextTokenizer) -> None:
    """Broken, the smallest p-value would be named though its decoys hold its verdict back."""
    served = _served(2)
    text = _text(served[1], tokenizer, 500)
    search = search_profiles(text, served, tokenizer_of=lambda name: tokenizer)
    false, right = search.profiles
    finding = false.result.finding
    held_back = replace(
        finding, tail=Tail(-999.0, -999.0, "exact"), verdict=Verdict.INCONCLUSIVE, warnings=("no",)
    )
    false = replace(false, result=replace(false.result, finding=held_back))
    search = replace(search, profiles=(false, right))
    assert search.verdict is Verdict.SIGNAL
    assert search.best is right
    assert search.tail.log10_p > -999


def test_what_does_not_belong_to_a_profile_names_it(tokenizer: TextTokenizer) -> None:
    config = engine_config("transformers-kgw", {"vocab_size": 20})
    profile = Profile("too small", "transformers", "smollm2", MASTER.key_id, config)
    with pytest.raises(ConfigError, match="profile 'too small': token ids must lie in"):
        search_profiles(
            "many words of a text",
            [*_served(1), ServedProfile(profile, MASTER)],
            tokenizer_of=lambda name: tokenizer,
        )


def test_a_search_of_many_keys_is_not_fooled(tokenizer: TextTokenizer) -> None:
    """The smallest of 40 null p-values is small; the corrected one is not."""
    rng = np.random.default_rng(3)
    served = _served(40)
    alone, corrected = [], []
    for _ in range(12):
        text = tokenizer.decode(rng.integers(0, 200, 60).tolist())
        search = search_profiles(text, served, tokenizer_of=lambda name: tokenizer)
        alone.append(search.best.result.finding.tail.p_value)
        corrected.append(search.tail.p_value)
        assert search.verdict is not Verdict.SIGNAL
    assert max(alone) < 0.2
    # Binomial(12, 0.05): 4 or more hits have a chance of 0.002.
    assert sum(p <= 0.05 for p in corrected) < 4


def test_nothing_to_search_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ConfigError, match="no profile"):
        search_profiles("text", [], tokenizer_of=lambda name: tokenizer)


def test_an_empty_text_is_inconclusive(tokenizer: TextTokenizer) -> None:
    search = search_profiles("", _served(3), tokenizer_of=lambda name: tokenizer)
    assert search.verdict is Verdict.INCONCLUSIVE
    assert search.to_dict(tokens=True)["p_value"] == 1.0


@pytest.fixture
def folder(tmp_path: Path, tokenizer_folder: Path) -> Path:
    for i, (profile, key) in enumerate(_served(3)):
        payload = {**profile.to_dict(), "tokenizer": str(tokenizer_folder)}
        (tmp_path / f"{i}.profile.json").write_text(json.dumps(payload))
        save_key(key, tmp_path / f"{i}.key.json")
    return tmp_path


def _run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(heirmark, [str(a) for a in arguments])
    return done.exit_code, done.output


def test_the_command_names_the_deployment(folder: Path, tokenizer: TextTokenizer) -> None:
    (folder / "t.txt").write_text(_text(_served(3)[1], tokenizer, 500))
    arguments = ["detect", folder / "t.txt", "--profiles", folder, "--decoys", 99]
    code, shown = _run(*arguments)
    assert code == 0
    assert "deployment 1: the best of 3" in shown
    code, printed = _run(*arguments, "--json")
    payload = json.loads(printed)
    assert payload["kind"] == "profiles"
    page = render_report(payload)
    assert "<bdi>deployment 1</bdi>" in page
    assert "Every deployment that was searched" in page


def test_wrong_usage_is_refused(folder: Path) -> None:
    (folder / "t.txt").write_text("words")
    text, key = folder / "t.txt", folder / "0.key.json"
    assert _run("detect", text)[0] == 2
    assert _run("detect", text, "--key", key, "--profiles", folder)[0] == 2
    assert _run("detect", text, "--profiles", folder, "--preset", "gumbel")[0] == 2
    assert _run("detect", text, "--profiles", folder, "--tokenizer", "smollm2")[0] == 2
    empty = folder / "empty"
    empty.mkdir()
    code, shown = _run("detect", text, "--profiles", empty)
    assert (code, "no *.profile.json" in shown) == (1, True)
    key.unlink()
    code, shown = _run("detect", text, "--profiles", folder)
    assert code == 1
    assert "put the key file there" in shown
