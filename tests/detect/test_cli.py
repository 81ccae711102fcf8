"""The command line, through the installed command: help, exit codes, errors without traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from detect.cli import heirmark
from detect.interrupts import run_interruptible
from tests.detect.synthetic import marked_ids
from watermark.config import load_config, preset
from watermark.keyring.key_files import load_key, save_key
from watermark.keys import EngineKey, SecretKey
from watermark.tokens import TextTokenizer

COMMANDS = [
    "keys", "generate", "detect", "scan", "probe", "report", "demo",
    "locate", "fraction", "watch", "power", "calibrate", "counterfactuals", "config", "profile",
    "trace", "registry", "commitments", "bundle", "verify",
]  # fmt: skip


def _run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "detect", *map(str, arguments)], capture_output=True, input=stdin
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    save_key(SecretKey(bytes(range(32))), tmp_path / "k.json")
    return tmp_path / "k.json"


def _contexts(command: click.Command, name: str) -> Iterator[click.Context]:
    """Walk the command and all that stand under it."""
    context = click.Context(command, info_name=name)
    yield context
    if isinstance(command, click.Group):
        for under, one in command.commands.items():
            yield from _contexts(one, under)


def test_every_command_has_help() -> None:
    assert sorted(heirmark.commands) == sorted(COMMANDS)
    assert "Usage:" in _run("detect", "--help").stdout
    for context in _contexts(heirmark, "heirmark"):
        lines = context.get_help().split("\n")
        # A summary that is cut short ends in dots.
        assert not [line for line in lines[1:] if line.endswith("...")]
        for option in context.command.params:
            assert not isinstance(option, click.Option) or option.help, option.name


def test_every_command_stands_under_one_heading() -> None:
    placed = [name for names in heirmark.sections.values() for name in names]
    assert sorted(placed) == sorted(COMMANDS)


def test_wrong_usage_exits_with_2(key_path: Path) -> None:
    for arguments in (
        ["detect"],
        ["nonsense"],
        ["generate", "--prompt", "x"],
        ["probe", "x", "--key", key_path],
        ["detect", "-", "--key", key_path, "--preset", "default", "--config", "c.json"],
        ["keys", "derive", key_path, "never.json"],
    ):
        done = _run(*arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr


def test_errors_exit_with_1_and_no_traceback(
    key_path: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.txt").write_bytes(b"abc\xff")
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "x"}\n{oops\n')
    (tmp_path / "page.json").write_text("{}")
    suspect = tmp_path / "suspect"
    suspect.mkdir()
    (suspect / "model.safetensors").write_bytes(b"")
    (suspect / "config.json").write_text("{}")
    (suspect / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "prompts.txt").write_text("Hello\n")
    test = ["--key", key_path, "--tokenizer", tokenizer_folder]
    for arguments, message in (
        (["detect", tmp_path / "none.txt", *test], "cannot read"),
        (["detect", tmp_path / "bad.txt", *test], "not UTF-8 at byte 3"),
        (["scan", tmp_path / "bad.jsonl", *test], "line 2"),
        (["detect", "-", "--key", tmp_path / "none"], "no key file"),
        (["demo", "--output", key_path], "is a file"),
        (["keys", "new", tmp_path / "no" / "k.json"], "no such folder"),
        (["keys", "import", tmp_path / "e.json"], "--from FILE"),
        (["report", tmp_path / "page.json"], "kind"),
        (["probe", suspect, "--prompts", tmp_path / "prompts.txt", *test], "could run code"),
    ):
        done = _run(*arguments)
        assert done.returncode == 1, (arguments, done.stderr)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(p.suffix for p in tmp_path.iterdir() if p.is_file()) == [
        ".json", ".json", ".jsonl", ".txt", ".txt",
    ]  # fmt: skip


def test_keys_are_made_once_and_derived(tmp_path: Path) -> None:
    path = tmp_path / "master.json"
    assert _run("keys", "new", path).returncode == 0
    assert _run("keys", "new", path).returncode == 1
    done = _run("keys", "derive", path, tmp_path / "e.json", "--epoch", "2026-11")
    assert done.returncode == 0
    shown = _run("keys", "show", tmp_path / "e.json").stdout.strip()
    assert shown in done.stdout
    secret = json.loads(path.read_text())["secret"]
    assert secret not in done.stdout + done.stderr


def test_an_engines_key_is_imported_unseen(tmp_path: Path) -> None:
    path = tmp_path / "e.key.json"
    done = CliRunner().invoke(heirmark, ["keys", "import", str(path)], input="0xEC4A67, 17\n")
    assert done.exit_code == 0, done.output
    assert "15485543" not in done.output
    assert "EC4A67" not in done.output
    key = load_key(path)
    assert isinstance(key, EngineKey)
    assert key.integers == (0xEC4A67, 17)
    assert _run("keys", "show", path).stdout.strip() == key.key_id


def test_an_engines_key_is_derived_from_ours(key_path: Path, tmp_path: Path) -> None:
    config = tmp_path / "vllm.json"
    assert _run("config", "--engine", "vllm", "-o", config).returncode == 0
    derived = tmp_path / "e.key.json"
    assert _run("keys", "engine", key_path, derived, "--config", config).returncode == 0
    key, source = load_key(derived), load_config(config).source
    assert isinstance(key, EngineKey)
    assert (source.key_of(key) == source.key_of(load_key(key_path))).all()
    assert _run("keys", "engine", derived, tmp_path / "f.json", "--config", config).returncode == 1


@pytest.mark.parametrize("text", ["", "secret", "12 thirteen", "1" * 40, "3.5", "-12345"])
def test_what_is_no_engines_key_is_refused_unquoted(tmp_path: Path, text: str) -> None:
    done = _run("keys", "import", tmp_path / "e.key.json", "--from", "-", stdin=text.encode())
    assert done.returncode == 1
    assert not text or text not in done.stderr
    assert not (tmp_path / "e.key.json").exists()


def test_detect_scan_and_report_end_to_end(
    key_path: Path, tokenizer: TextTokenizer, tokenizer_folder: Path, tmp_path: Path
) -> None:
    config, key = preset("default"), SecretKey(bytes(range(32)))
    rows = [
        {
            "id": str(i),
            "token_ids": marked_ids(
                config, key, 80, vocabulary=tokenizer.vocab_size, seed=i
            ).tolist(),
        }
        for i in range(6)
    ]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = ["--key", key_path, "--tokenizer", tokenizer_folder]
    done = _run("scan", corpus, *test, "--json", "--output", tmp_path / "scan.json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "scan.json").read_text())
    assert json.loads(done.stdout)["verdict"] == "signal"
    text = _run("detect", "-", *test, "--json", "--tokens", stdin=b"The old captain read the book.")
    (tmp_path / "text.json").write_text(text.stdout)
    for name in ("scan", "text"):
        assert _run("report", tmp_path / f"{name}.json").returncode == 0
        page = (tmp_path / f"{name}.html").read_text()
        assert page.startswith("<!DOCTYPE html>") or page.lower().startswith("<!doctype html>")
    assert _run("report", tmp_path / "scan.json", "-o", tmp_path / "scan.json").returncode == 1


def test_what_a_deployment_spares_goes_from_the_options_to_generation(
    key_path: Path, model_folder: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    path, used = tmp_path / "ours.json", tmp_path / "used.json"
    spared = ["--min-entropy", "0.5", "--reasoning", "<think>", "</think>", "--reasoning-unmarked"]
    done = CliRunner().invoke(
        heirmark,
        [
            "config",
            "--preset",
            "gumbel",
            *spared,
            "--tokenizer",
            str(model_folder),
            "-o",
            str(path),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "tokens of less than 0.5 nats and reasoning stay unmarked" in done.output
    config = load_config(path)
    assert config.tokenizer == tokenizer.fingerprint
    assert config.reasoning is not None
    assert config.reasoning.begin_ids == tuple(tokenizer.encode("<think>").tolist())
    assert not config.reasoning.is_marked
    assert config.min_entropy == 0.5
    arguments = ["generate", "--model", str(model_folder), "--key", str(key_path)]
    arguments += ["--prompt", "Count.", "--max-new-tokens", "5", "--save-config", str(used)]
    for options in (["--config", str(path)], ["--preset", "gumbel", *spared]):
        done = CliRunner().invoke(heirmark, [*arguments, *options])
        assert done.exit_code == 0, done.output
        assert load_config(used) == config
    foreign = replace(config, reasoning=None).bound_to("sha256:" + "0" * 64)
    path.write_text(json.dumps(foreign.to_dict()))
    done = CliRunner().invoke(heirmark, [*arguments, "--config", str(path), *spared])
    assert done.exit_code == 1
    assert "provider's tokenizer" in done.output


def test_a_border_that_may_be_lost_is_refused_where_an_answer_would_stay_unmarked(
    tokenizer_folder: Path, tmp_path: Path
) -> None:
    """Behind a space it is another token: an end that is not seen would never end."""
    options = ["config", "--preset", "default", "--reasoning", "a", "b", "-o", tmp_path / "c.json"]
    arguments = [*map(str, options), "--tokenizer", str(tokenizer_folder)]
    done = CliRunner().invoke(heirmark, arguments)
    assert done.exit_code == 0
    assert "note: 'a' is no token of its own" in done.output
    done = CliRunner().invoke(heirmark, [*arguments, "--reasoning-unmarked"])
    assert done.exit_code == 1
    assert "all that follows would stay unmarked" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["config"], "--engine ENGINE or --preset"),
        (["config", "--preset", "default", "--engine", "vllm"], "--engine ENGINE or --preset"),
        (["config", "--preset", "default", "--set", "key=1"], "those of an --engine"),
        (["config", "--preset", "default", "--min-entropy", "9"], "0 to 5 nats"),
        (["config", "--preset", "default", "--min-entropy", "nan"], "0 to 5 nats"),
        (["config", "--preset", "default", "--reasoning", "a", "b"], "give --tokenizer"),
        (["config", "--preset", "default", "--reasoning-open"], "--reasoning BEGIN END"),
        (["generate", "--unmarked", "--prompt", "p", "--min-entropy", "1"], "leaves all unmarked"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(heirmark, arguments)
    assert done.exit_code != 0
    assert message in done.output


def test_detect_starts_fast_and_without_torch(
    key_path: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """The target is one second on a quiet machine: by processor time on one that is not."""
    (tmp_path / "t.txt").write_text("The harbour was quiet when the first boat came in.")
    arguments = ["detect", tmp_path / "t.txt", "--key", key_path, "--tokenizer", tokenizer_folder]
    _run(*arguments)
    before = os.times()
    assert _run(*arguments, "--json").returncode == 0
    after = os.times()
    used = after.children_user + after.children_system
    assert used - before.children_user - before.children_system < 2


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 3.0])
def test_ctrl_c_ends_quietly_at_any_moment(
    delay: float, key_path: Path, tokenizer_folder: Path
) -> None:
    """Counted from the first import of ours; before that the moment is the interpreter's own.

    The imports take about a third of a second; then the command waits for answers.
    """
    options = ["watch", "-", "--key", key_path, "--tokenizer", tokenizer_folder]
    command = [sys.executable, "-X", "importtime", "-m", "detect", *map(str, options)]
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # A test run in the background ignores Ctrl-C, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        assert process.stderr is not None
        while not (line := process.stderr.readline()).endswith(b" click\n"):
            assert line
        rest = pool.submit(process.stderr.read)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    said = [x for x in rest.result().decode().splitlines() if not x.startswith("import time:")]
    assert [line for line in said if line.strip()] in ([], ["stopped"])


def test_an_interrupt_within_exec_ends_by_our_exit_code(tmp_path: Path) -> None:
    """As where dataclasses are made; `python -m` would be ended by the signal."""
    (tmp_path / "interrupted.py").write_text(
        "import signal, sys\n"
        "from detect.interrupts import run_interruptible\n"
        "sys.exit(run_interruptible(lambda: exec('signal.raise_signal(signal.SIGINT)') or 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        # A test run in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert done.returncode == 130


@pytest.mark.parametrize(("came", "code"), [(True, 130), (False, 3)])
def test_what_an_interrupt_turns_into_is_still_an_interrupt(came: bool, code: int) -> None:
    """A library that makes an error of it, and a command that goes on with a code of its own."""

    def work() -> None:
        if came:
            signal.raise_signal(signal.SIGINT)

    def swallow() -> int:
        with suppress(KeyboardInterrupt):
            work()
        return 3

    def convert() -> int:
        try:
            work()
        except KeyboardInterrupt:
            raise ImportError("half imported") from None
        return 3

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run_interruptible(swallow) == code
        assert run_interruptible(convert) == code
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect", "-", "--key", "k", "--alpha", "nan"],
        ["detect", "-", "--key", "k", "--temperature", "nan"],
        ["detect", "-", "--key", "k", "--seed", "-1"],
        ["generate", "--unmarked", "--prompt", "p", "--temperature", "inf"],
        ["generate", "--unmarked", "--prompt", "p", "--seed", str(10**30)],
    ],
)
def test_numbers_that_make_no_sense_are_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(heirmark, arguments).exit_code == 2
