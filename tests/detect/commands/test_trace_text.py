"""`heirmark trace text` from end to end: texts, corpora, bad input, and no secret anywhere."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from detect.cli import heirmark
from tests.conftest import PARAGRAPH
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.keyring.key_files import save_key
from watermark.keyring.labels import KeyLabels
from watermark.keys import SecretKey
from watermark.prf import NATIVE
from watermark.registry.records import KeyFilter
from watermark.registry.registry import Registry

MASTER = SecretKey(bytes(range(32)))
LABELS = [KeyLabels("m", "e", "", f"a{i}") for i in range(50)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traced")
    save_key(MASTER, folder / "master.json")
    save_key(LABELS[40].key_from(MASTER), folder / "a40.json")
    lines = [json.dumps(one.to_dict()) for one in LABELS]
    (folder / "accounts.jsonl").write_text("\n".join(lines))
    (folder / "accounts.txt").write_text("\n".join(f"a{i}" for i in range(50)))
    _corpus(folder / "corpus.jsonl", [3, 3, None, 8], seed=0)
    _corpus(folder / "reference.jsonl", [40] * 5, seed=50)
    (folder / "plain.txt").write_text(PARAGRAPH)
    return folder


def _corpus(path: Path, writers: list[int | None], seed: int) -> None:
    rows = [
        marked_ids(
            preset("default"), None if w is None else LABELS[w].key_from(MASTER), 60,
            vocabulary=380, seed=seed + i,
        ).tolist()
        for i, w in enumerate(writers)
    ]  # fmt: skip
    path.write_text("".join(json.dumps({"id": f"d{i}", "token_ids": r}) + "\n"
                            for i, r in enumerate(rows)))  # fmt: skip


def _run(folder: Path, tokenizer: Path, source: str, *options: str, stdin: str = "") -> Result:
    family = [] if "--keys" in options else ["--master", str(folder / "master.json")]
    if not {"--keys", "--accounts", "--registry"} & set(options):
        family += ["--accounts", str(folder / "accounts.jsonl")]
    arguments = ["trace", "text", source, *family, "--tokenizer", str(tokenizer), *options]
    return CliRunner().invoke(heirmark, arguments, input=stdin)


def test_a_corpus_names_its_writers(folder: Path, tokenizer_folder: Path) -> None:
    output = folder / "result.json"
    done = _run(
        folder, tokenizer_folder, str(folder / "corpus.jsonl"), "--decoys", "19", "-o", str(output),
        "--reference", str(folder / "reference.jsonl"), "--reference-key", str(folder / "a40.json"),
    )  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exc_info)
    assert "named     m/e/a3, m/e/a8" in done.output
    assert "d2" in done.output
    assert "rank 1 of 20" in done.output
    assert "unmarked, or of others" in done.output
    payload = json.loads(output.read_text())
    assert (payload["kind"], payload["verdict"]) == ("trace_text", "signal")
    assert payload["ranking"][0]["labels"] == {"model": "m", "epoch": "e", "account": "a3"}
    assert [row["named"] for row in payload["documents"]] == [
        ["m/e/a3"], ["m/e/a3"], [], ["m/e/a8"],
    ]  # fmt: skip
    assert [row["account"] for row in payload["shares"]["accounts"]] == ["m/e/a3", "m/e/a8"]
    assert payload["documents"][0]["source"].endswith("corpus.jsonl, line 1")


def test_every_source_of_keys_gives_the_same_numbers(
    folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    for labels in LABELS:
        save_key(labels.key_from(MASTER), tmp_path / f"{labels.account}.key.json")
    corpus = str(folder / "corpus.jsonl")
    ways = [
        [],
        ["--accounts", str(folder / "accounts.txt"), "--model", "m", "--epoch", "e"],
        ["--keys", str(tmp_path)],
    ]
    found = []
    for way in ways:
        done = _run(folder, tokenizer_folder, corpus, *way, "--decoys", "0", "--json")
        payload = json.loads(done.output)
        found.append((payload["log10_p"], payload["key_id"], len(payload["named"])))
    assert found == [found[0]] * 3
    assert found[0][2] == 2


def test_a_master_comes_from_a_variable(
    folder: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_MASTER", base64.b64encode(MASTER.secret).decode())
    corpus, accounts = str(folder / "corpus.jsonl"), str(folder / "accounts.jsonl")
    options = ["--tokenizer", str(tokenizer_folder), "--decoys", "0", "--json"]
    arguments = ["trace", "text", corpus, "--master", "env:A_MASTER", "--accounts", accounts]
    done = CliRunner().invoke(heirmark, [*arguments, *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["named"] == ["m/e/a3", "m/e/a8"]


def test_a_text_comes_from_a_file_or_standard_input(folder: Path, tokenizer_folder: Path) -> None:
    options = ("--decoys", "19", "--json")
    by_file = json.loads(_run(folder, tokenizer_folder, str(folder / "plain.txt"), *options).output)
    by_stdin = json.loads(_run(folder, tokenizer_folder, "-", *options, stdin=PARAGRAPH).output)
    assert by_file["n_scored"] == by_stdin["n_scored"] > 40
    assert by_file["log10_p"] == by_stdin["log10_p"]
    assert by_file["named"] == []
    assert by_file["n_documents"] == 1
    assert by_stdin["documents"][0]["source"] == "standard input"
    prompted = _run(
        folder, tokenizer_folder, str(folder / "plain.txt"), *options,
        "--prompt", str(folder / "plain.txt"),
    )  # fmt: skip
    assert json.loads(prompted.output)["n_scored"] == 0


def test_bad_documents_are_counted_or_end_the_search(
    folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "bad.jsonl"
    good = (folder / "corpus.jsonl").read_text().splitlines()
    corpus.write_text("\n".join([good[0], "{", '{"token_ids": [999999]}', '{"x": 1}', good[3]]))
    refused = _run(folder, tokenizer_folder, str(corpus), "--decoys", "0")
    assert refused.exit_code == 1
    assert "bad.jsonl, line 2" in refused.output
    assert "--skip-bad" in refused.output
    done = _run(folder, tokenizer_folder, str(corpus), "--decoys", "0", "--skip-bad", "--json")
    payload = json.loads(done.output)
    assert payload["left_out"]["reasons"] == {
        "id_out_of_vocabulary": 1, "no_text_and_no_ids": 1, "not_json": 1,
    }  # fmt: skip
    assert payload["n_documents"] == 2
    assert [row["source"][-6:] for row in payload["documents"]] == ["line 1", "line 5"]
    assert any("bad.jsonl, line 3: token id 999999" in e for e in payload["left_out"]["examples"])


def test_names_of_documents_cannot_move_the_cursor(
    folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """An id is what the maker of a corpus chose: it forges no line of the summary."""
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    forged = "\x1b[2K\r\x1b[9Anamed     m/e/a1\nnamed     m/e/a2\u202e\x9b1A"
    rows[0]["id"] = forged
    corpus = tmp_path / f"forged{chr(27)}.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    output = tmp_path / "result.json"
    done = _run(
        folder, tokenizer_folder, str(corpus), "--decoys", "0", "--skip-bad", "-o", str(output)
    )
    assert done.exit_code == 0, done.output
    assert "?[2K??[9Anamed" in done.output
    assert all(line.isprintable() for line in done.output.splitlines())
    assert [line for line in done.output.splitlines() if line.startswith("named")] == [
        "named     m/e/a3, m/e/a8"
    ]
    payload = json.loads(output.read_text())
    assert forged in [row["id"] for row in payload["documents"]]
    assert (payload["family"], payload["prompt"]) == ("accounts", False)


def test_wrong_usage_is_said(folder: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    corpus, plain = str(folder / "corpus.jsonl"), str(folder / "plain.txt")
    (tmp_path / "empty.txt").write_text("\n")
    cases = [
        (corpus, ["--keys", str(tmp_path), "--epoch", "e"], 2, "--keys names all keys itself"),
        (corpus, ["--prompt", plain], 2, "goes with a single text"),
        (corpus, ["--reference", corpus], 2, "go together"),
        (corpus, ["--keys", str(tmp_path)], 1, "no *.key.json"),
        (corpus, ["--accounts", str(tmp_path / "empty.txt")], 1, "at least one"),
        (corpus, ["--accounts", str(tmp_path / "none.txt")], 1, "cannot read"),
        (str(tmp_path / "none.jsonl"), [], 1, "none.jsonl"),
        (str(tmp_path / "none"), [], 1, "none"),
    ]
    for source, options, code, message in cases:
        done = _run(folder, tokenizer_folder, source, *options)
        assert (done.exit_code, message in done.output) == (code, True), (options, done.output)
    alone = CliRunner().invoke(heirmark, ["trace", "text", corpus, "--accounts", plain])
    assert (alone.exit_code, "give --master FILE with --accounts" in alone.output) == (2, True)


def test_no_secret_is_printed_anywhere(
    folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "r.json"
    secrets = [MASTER.secret, LABELS[3].key_from(MASTER).secret]
    forms = [form for s in secrets for form in (s.hex(), str(s), str(int.from_bytes(s, "little")))]
    forms += [str(i) for labels in LABELS for i in NATIVE.key_of(labels.key_from(MASTER)).tolist()]
    shown = ""
    for options in ([], ["--json"], ["--accounts", str(folder / "master.json")]):
        done = _run(
            folder, tokenizer_folder, str(folder / "corpus.jsonl"), *options, "--decoys", "19",
            "-o", str(output),
        )  # fmt: skip
        shown += done.output + repr(done.exception)
    shown += output.read_text()
    assert "a3" in shown
    assert [form for form in forms if form in shown] == []
    # The secret as its file writes it.
    assert json.loads((folder / "master.json").read_text())["secret"] not in shown


def test_ctrl_c_ends_it_cleanly(folder: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "detect", "trace", "text", "-", "--master",
        str(folder / "master.json"), "--accounts", str(folder / "accounts.jsonl"), "--tokenizer",
        str(tokenizer_folder), "-o", str(tmp_path / "r.json"),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdin is not None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert not (tmp_path / "r.json").exists()


def test_a_registry_says_who_could_be_named(folder: Path, tokenizer_folder: Path) -> None:
    """Of this master's keys all: a retired one is still in old texts."""
    place = str(folder / "registry.db")
    other = SecretKey(bytes(reversed(range(32))))
    with Registry.open(place, create=True) as registry:
        registry.import_keys(LABELS, MASTER, preset("default"))
        registry.import_keys([KeyLabels("m", "e", "", "stranger")], other, preset("default"))
        registry.retire(KeyFilter(account="a3"), "left")
    source = str(folder / "corpus.jsonl")
    done = _run(folder, tokenizer_folder, source, "--registry", place, "--json", "--decoys", "0")
    assert done.exit_code == 0, (done.output, done.exc_info)
    payload = json.loads(done.stdout)
    assert payload["n_keys"] == len(LABELS)
    assert payload["named"] == ["m/e/a3", "m/e/a8"]
    for options, message in (
        (("--registry", place, "--epoch", "none"), "knows no key"),
        (("--registry", str(folder / "nothing.db")), "nothing.db"),
    ):
        refused = _run(folder, tokenizer_folder, source, *options)
        assert refused.exit_code == 1
        assert message in refused.output


def test_a_revoked_key_is_said_by_registry_and_by_export(
    folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    place, exported = str(tmp_path / "r.db"), str(tmp_path / "labels.jsonl")
    with Registry.open(place, create=True) as registry:
        registry.import_keys(LABELS, MASTER, preset("default"))
        registry.revoke(KeyFilter(account="a3"), "laptop stolen")
        registry.retire(KeyFilter(account="a9"), "left")
        revoked_at = next(iter(registry.keys(KeyFilter(account="a3")))).to_dict()["revoked_at"]
    export = ["registry", "export", "--registry", place, "--output", exported]
    assert CliRunner().invoke(heirmark, export).exit_code == 0
    source = str(folder / "corpus.jsonl")
    found = []
    for way in (["--registry", place], ["--accounts", exported]):
        output = tmp_path / "result.json"
        done = _run(folder, tokenizer_folder, source, *way, "--decoys", "0", "-o", str(output))
        assert done.exit_code == 0, (done.output, done.exc_info)
        assert "named     m/e/a8\n" in done.output
        assert "revoked   m/e/a3: the key's mark is there, and others may know" in done.output
        assert "(key revoked)" in done.output
        assert f"revoked on {revoked_at[:10]} (laptop stolen)" in done.output
        payload = json.loads(output.read_text())
        found.append(payload)
        rows = {row["account"]: row for row in payload["ranking"]}
        assert rows["m/e/a3"]["revoked_at"] == revoked_at
        assert payload["named_revoked"] == ["m/e/a3"]
        assert payload["documents"][0]["verdict"] == "inconclusive"
    assert [row.pop("family") for row in found] == ["registry", "accounts"]
    assert found[0] == found[1]
