"""`heirmark trace model` on a tiny real model: files in, a result out, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from detect.cli import heirmark
from detect.commands.trace import trace
from detect.commands.trace_model import _summary
from tests.conftest import PARAGRAPH
from tests.detect.reporting.payloads import make_result
from tests.detect.synthetic import marked_ids
from watermark.config import WatermarkConfig, preset
from watermark.errors import ConfigError, ResultError, WatermarkError
from watermark.keyring.key_files import save_key
from watermark.keyring.labels import KeyLabels
from watermark.keys import SecretKey
from watermark.registry.records import Exchanges, KeyFilter
from watermark.registry.registry import Registry
from watermark.tokens import load_tokenizer

MASTER = SecretKey(bytes(32))


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(trace, ["model", *map(str, arguments)])


def _payload(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, (result.output, result.exception)
    return dict(json.loads(result.stdout))


def _failure(result: Result) -> BaseException:
    assert result.exception is not None
    return result.exception


@pytest.fixture
def master(tmp_path: Path) -> Path:
    save_key(MASTER, tmp_path / "master.json")
    return tmp_path / "master.json"


@pytest.fixture
def text(tmp_path: Path, tokenizer_folder: Path) -> list[str]:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"Tell me about {x}.\n" for x in ("rain", "tea", "cats")))
    options = ["--tokenizer", str(tokenizer_folder), "--decoys", "99", "--json"]
    return [*options, "--prompts", str(prompts), "--max-new-tokens", "24"]


@pytest.fixture
def weights(tmp_path: Path, tokenizer_folder: Path) -> list[str]:
    reading = tmp_path / "reading.jsonl"
    reading.write_text(json.dumps({"prompt": "Say it.", "text": PARAGRAPH}) + "\n")
    options = ["--tokenizer", str(tokenizer_folder), "--decoys", "99", "--json"]
    return [*options, "--access", "weights", "--reading", str(reading)]


def _family(master: Path) -> list[object]:
    return ["--master", master, "--label-model", "m", "--epoch", "e1", "--epoch", "e2",
            "--cohort", "c0", "--cohort", "c1"]  # fmt: skip


def test_by_text(model_folder: Path, master: Path, text: list[str], tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    arguments = [model_folder, *text, *_family(master), "--control", model_folder, "-o", output]
    payload = _payload(_run(*arguments))
    assert json.loads(output.read_text()) == payload
    assert payload["kind"] == "trace_model"
    assert payload["conclusion"] == "undecided"
    rows = payload["cohorts"]
    names = ["m/e1/c0", "m/e1/c1", "m/e2/c0", "m/e2/c1"]
    assert [row["name"] for row in rows] == names
    assert rows[1]["labels"] == {"model": "m", "epoch": "e1", "cohort": "c1"}
    key = MASTER.derive(model="m", epoch="e2", cohort="c0")
    assert rows[2]["key_id"] == key.key_id
    # The control is the suspect itself: asked with the same seed, it says the same.
    assert [row["controls"][0]["log10_p"] for row in rows] == [row["log10_p"] for row in rows]
    assert payload["controls"][0]["log10_p"] == payload["spread"]["pooled"]["log10_p"]
    shown = _run(*(a for a in arguments if a != "--json"))
    assert "conclusion undecided" in shown.output
    assert all(name in shown.output for name in names)


def test_a_key_folder_gives_what_labels_give(
    model_folder: Path, master: Path, text: list[str], tmp_path: Path
) -> None:
    folder, labels = tmp_path / "keys", tmp_path / "labels.jsonl"
    each = [KeyLabels("m", "e1", f"c{i}") for i in range(3)]
    for i, label in enumerate(each):
        (folder / "e1").mkdir(parents=True, exist_ok=True)
        save_key(label.key_from(MASTER), folder / "e1" / f"c{i}.key.json")
    labels.write_text("".join(json.dumps(label.to_dict()) + "\n" for label in each))
    by_folder = _payload(_run(model_folder, *text, "--keys", folder))
    by_labels = _payload(_run(model_folder, *text, "--master", master, "--labels", labels))
    assert [row["name"] for row in by_folder["cohorts"]] == ["e1/c0", "e1/c1", "e1/c2"]
    kept = ("key_id", "log10_p", "z", "decoys")
    assert [[row[k] for k in kept] for row in by_folder["cohorts"]] == [
        [row[k] for k in kept] for row in by_labels["cohorts"]
    ]


def test_by_weights_with_counters(
    model_folder: Path, master: Path, weights: list[str], tmp_path: Path
) -> None:
    served = tmp_path / "served.json"
    names = [f"m/e{e}/c{c}" for e in (1, 2) for c in (0, 1)]
    served.write_text(json.dumps(dict.fromkeys(names, 500)))
    payload = _payload(_run(model_folder, *weights, *_family(master), "--served", served))
    assert payload["reading"]["n_positions"] > 20
    assert payload["spread"]["concentration"]["by_traffic"]
    assert payload["used"]["served"] == dict.fromkeys(names, 500)
    served.write_text('{"m/e1/c9": 3}')
    with pytest.raises(ConfigError, match="no key under test is called m/e1/c9"):
        raise _failure(_run(model_folder, *weights, *_family(master), "--served", served))


def test_own_texts_weigh_contexts_unless_any_of_the_keys_shaped_them(
    model_folder: Path, master: Path, text: list[str], tmp_path: Path
) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"text": PARAGRAPH}) + "\n")
    arguments = [model_folder, *text, *_family(master), "--own-texts", own]
    payload = _payload(_run(*arguments))
    assert payload["score"] == "weak, weighted by contexts"
    assert payload["spread"]["concentration"]["log10_p"] <= 0
    last = MASTER.derive(model="m", epoch="e2", cohort="c1")
    own.write_text(json.dumps({"text": PARAGRAPH, "key_id": last.key_id}) + "\n")
    with pytest.raises(ResultError, match=last.key_id):
        raise _failure(_run(*arguments))


def test_texts_marked_under_any_of_the_keys_are_not_read(
    model_folder: Path, master: Path, weights: list[str], tokenizer_folder: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    key = MASTER.derive(model="m", epoch="e2", cohort="c1")
    config = preset("default")
    ids = marked_ids(config, key, 200, vocabulary=tokenizer.vocab_size, seed=0)
    reading = tmp_path / "marked.jsonl"
    reading.write_text(json.dumps({"prompt": "Say it.", "text": tokenizer.decode(ids)}) + "\n")
    at = weights.index("--reading")
    with pytest.raises(ResultError, match="carry the mark themselves"):
        raise _failure(_run(model_folder, *weights[:at], "--reading", reading, *_family(master)))


def test_keys_that_cannot_be_traced(
    model_folder: Path, master: Path, text: list[str], tmp_path: Path
) -> None:
    def refused(*options: object) -> Result:
        return _run(model_folder, *text, *options)

    seventeen = [x for i in range(17) for x in ("--cohort", f"c{i}")]
    with pytest.raises(ConfigError, match=r"at most 16 keys, got 17.*1/17 of the effect"):
        raise _failure(refused("--master", master, *seventeen))
    with pytest.raises(ConfigError, match="at least two keys, got 1"):
        raise _failure(refused("--master", master, "--cohort", "c0"))
    with pytest.raises(ConfigError, match="two keys are called 'c0'"):
        raise _failure(refused("--master", master, "--cohort", "c0", "--cohort", "c0"))
    folder = tmp_path / "keys"
    folder.mkdir()
    with pytest.raises(ConfigError, match="holds no"):
        raise _failure(refused("--keys", folder))
    for name in ("a", "b"):
        save_key(SecretKey(b"k" * 32), folder / f"{name}.key.json")
    with pytest.raises(ConfigError, match="a and b are the same key"):
        raise _failure(refused("--keys", folder))
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"cohort": "c0"}\n{"cohrt": "c1"}\n')
    with pytest.raises(ConfigError, match="line 2: unknown labels: cohrt"):
        raise _failure(refused("--master", master, "--labels", labels))


def test_a_suspect_is_not_its_own_reference(
    model_folder: Path, master: Path, weights: list[str]
) -> None:
    with pytest.raises(ConfigError, match="suspect and reference are the same model"):
        raise _failure(_run(model_folder, *weights, *_family(master), "--reference", model_folder))


def _cohorts(place: Path, config: WatermarkConfig = preset("default")) -> list[str]:  # noqa: B008
    """Make a registry of four cohorts, one of them revoked, and accounts beside; key ids."""
    labels = [KeyLabels("m", epoch, c) for epoch in ("e1", "e2") for c in ("c0", "c1")]
    with Registry.open(place, create=True) as registry:
        ids = [registry.issue(one, MASTER, config).key_id for one in labels]
        registry.issue(KeyLabels("m", "e1", "c0", "alice"), MASTER, config)
        registry.issue(KeyLabels("m", "e1", "c9"), SecretKey(b"o" * 32), config)
        registry.retire(KeyFilter(key_id=ids[0]), "over")
        registry.revoke(KeyFilter(key_id=ids[3]), "laptop stolen")
    return ids


def test_a_registry_gives_the_bytes_that_its_export_gives(
    model_folder: Path, master: Path, text: list[str], tmp_path: Path
) -> None:
    place, labels = tmp_path / "r.db", tmp_path / "labels.jsonl"
    ids = _cohorts(place)
    counts = [Exchanges(300 + i, 1000 * (4 - i)) for i in range(4)]
    lines = [json.dumps({"key_id": i, **c._asdict()}) for i, c in zip(ids, counts, strict=True)]
    (tmp_path / "counts.jsonl").write_text("\n".join(lines))
    export = ["export", "-r", place, "--master", master, "--account", "", "-o", labels]
    for words in (["count", tmp_path / "counts.jsonl", "-r", place], export):
        done = CliRunner().invoke(heirmark, ["registry", *map(str, words)])
        assert done.exit_code == 0, done.output
    names = ["m/e1/c0", "m/e1/c1", "m/e2/c0", "m/e2/c1"]
    common = [model_folder, *text, "--master", master]
    for traffic, at in (("exchanges", 0), ("tokens", 1), ("none", None)):
        served = []
        if at is not None:
            numbers = {name: count[at] for name, count in zip(names, counts, strict=True)}
            (tmp_path / "served.json").write_text(json.dumps(numbers))
            served = ["--served", tmp_path / "served.json"]
        found = []
        for way in (["--registry", place, "--traffic", traffic], ["--labels", labels, *served]):
            output = tmp_path / "out.json"
            done = _run(*common, *way, "-o", output)
            assert done.exit_code == 0, (done.output, done.exception)
            found.append((output.read_bytes(), done.stdout))
        assert found[0] == found[1]
        payload = json.loads(found[0][0])
        assert [row["name"] for row in payload["cohorts"]] == names
        assert [row["revoked_reason"] for row in payload["cohorts"]][3] == "laptop stolen"
        assert payload["used"].get("served") == (None if at is None else numbers)
    some = _run(*common, "--registry", place, "--cohort", "c0", "--label-model", "m")
    assert [row["name"] for row in _payload(some)["cohorts"]] == ["m/e1/c0", "m/e2/c0"]
    # 301 under c1 of e1, 303 under c1 of e2.
    assert "counts 604 exchanges of this model under keys that are not under test" in some.stderr


def test_a_registry_that_cannot_be_traced(
    model_folder: Path, master: Path, text: list[str], tmp_path: Path
) -> None:
    place = tmp_path / "r.db"
    ids = _cohorts(place)

    def refusal(*options: object) -> str:
        result = _run(model_folder, *text, "--master", master, "--registry", place, *options)
        assert isinstance(_failure(result), WatermarkError), result.output
        return str(_failure(result))

    assert "counts no exchanges under 'm/e1/c0', 'm/e1/c1', 'm/e2/c0', 'm/e2/c1'" in refusal()
    with Registry.open(place) as registry:
        registry.count({ids[0]: Exchanges(3, 40), ids[1]: Exchanges(5, 0), ids[2]: Exchanges(0, 0)})
    assert "counts no exchanges under 'm/e2/c0', 'm/e2/c1'. Count what" in refusal()
    assert "counts no tokens under 'm/e1/c1', " in refusal("--traffic", "tokens")
    assert "no key of the epoch 'e3'" in refusal("--epoch", "e1", "--epoch", "e3")
    assert "it knows 'e1', 'e2'" in refusal("--epoch", "e3")
    # Of another master, and of an account.
    assert "no key of the cohort 'c9'" in refusal("--cohort", "c9")
    assert "no key of the model 'n' that was derived from" in refusal("--label-model", "n")
    assert "not revoked, got 1 beside m/e2/c1" in refusal("--epoch", "e2", "--traffic", "none")
    wrong = refusal("--preset", "gumbel", "--traffic", "none")
    assert "give the config that the text was marked with" in wrong
    with Registry.open(place) as registry:
        registry.issue(KeyLabels("m", "e1", "c5"), MASTER, preset("gumbel"))
    assert "different configs" in refusal("--traffic", "none")
    with Registry.open(place) as registry:
        registry.issue(KeyLabels("n", "e1", "c0"), MASTER, preset("default"))
        registry.issue(KeyLabels("o", "e1", "c0", "bob"), MASTER, preset("default"))
    assert "keys of the models 'm', 'n'" in refusal()
    assert "all keys of the model 'o' were issued to accounts" in refusal("--label-model", "o")


def test_a_config_that_is_bound_to_a_tokenizer_is_the_same_mark(
    model_folder: Path, master: Path, text: list[str], tokenizer_folder: Path, tmp_path: Path
) -> None:
    bound = preset("default").bound_to(load_tokenizer(tokenizer_folder).fingerprint)
    _cohorts(tmp_path / "r.db", bound)
    place = ["--master", master, "--registry", tmp_path / "r.db", "--traffic", "none"]
    assert len(_payload(_run(model_folder, *text, *place))["cohorts"]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--keys FOLDER or as --master FILE"),
        (["--keys", "k", "--master", "m"], "one of them"),
        (["--master", "m"], "needs --labels FILE, or --epoch and --cohort"),
        (["--master", "m", "--labels", "l", "--cohort", "c"], "needs --labels FILE, or"),
        (["--keys", "k", "--epoch", "e"], "need --master"),
        (["--keys", "k", "--registry", "r"], "need --master"),
        (["--master", "m", "--registry", "r", "--labels", "l"], "no --labels, no --served"),
        (["--master", "m", "--registry", "r", "--served", "s"], "no --labels, no --served"),
        (["--master", "m", "--cohort", "c", "--traffic", "none"], "goes with --registry"),
        (["--keys", "k", "--access", "weights"], "needs --reading"),
        (["--keys", "k"], "needs --prompts"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], message: str) -> None:
    result = _run("smollm2", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_the_lines_say_what_was_presumed_and_give_no_part_that_was_held_back() -> None:
    payload = make_result("trace_model")
    payload["n_tokens"] = 20_000
    shown = _summary(payload)
    assert "alpha 1e-06, keys and pooled 5e-07 each" in shown
    assert "a leak presumed to hold 100 documents: p = " in shown
    assert "(at least 71%, 95 of 100 times)" in shown
    payload["named_revoked"] = ["c9"]
    payload["cohorts"][0]["revoked"] = True
    assert "revoked    c9: the key's mark is there" in _summary(payload)
    assert _summary(payload).count("(key revoked)") == 1
    alone = payload["spread"]["concentration"]
    alone |= {"share_at_least": None, "presumed_documents": None}
    shown = _summary(payload)
    assert "presumed" not in shown
    assert "at least" not in shown
