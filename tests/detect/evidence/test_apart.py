"""The process that verifies: whatever becomes of it, there is an answer, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detect.evidence import apart
from detect.evidence.checks import Check, Outcome, Verification
from detect.evidence.exchange import NOTHING, Heard, Told, hear, tell
from detect.evidence.limits import LEAST_MEMORY, Limits
from detect.evidence.request import VerifyRequest
from detect.evidence.stops import Stop, stop_of
from detect.evidence.verifying import verify_bundle
from tests.detect.evidence.acts import forged, run, verified
from watermark.errors import ConfigError, DocumentError

ROOT = Path(__file__).parents[3]
LIMITS = Limits(memory=2 << 30, seconds=60, disk=1 << 30)

pytestmark = pytest.mark.usefixtures("in_its_own_process")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; nothing may be left there."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    return made


def _child_does(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the child run this in the place of its last step."""
    body = "".join(f"    {line}\n" for line in code.splitlines())
    changed = (
        "import json, os, sys; sys.path[:] = json.loads(sys.argv[1])\n"
        "from detect.evidence import recomputing, verifying\n"
        "from detect.evidence.checks import Check, Outcome\n"
        f"def recompute(bundled, key_place, given):\n{body}    yield from ()\n"
        "verifying.recompute = recompute\n"
        "from detect.evidence.child import main; main()\n"
    )
    monkeypatch.setattr(apart, "_START", changed)


def test_an_honest_bundle_gives_the_same_checks_as_in_this_process(
    whole_case: Path, place: Path, folder: Path
) -> None:
    request = VerifyRequest(whole_case, key_place=str(place / "k.json"))
    assert apart.verify_apart(request, LIMITS) == verify_bundle(request)
    assert list(folder.iterdir()) == []


# What the child does in the place of the test, under which limits, and what is said of it.
ENDS: dict[str, tuple[str, Limits, str]] = {
    "segfault": ("os.kill(os.getpid(), 11)", LIMITS, "crashed (SIGSEGV); a file of the bundle"),
    "out of memory": ("os.kill(os.getpid(), 9)", LIMITS, "was killed from outside (SIGKILL)"),
    "quiet end": ("os._exit(3)", LIMITS, "crashed (exit code 3)"),
    "memory": (
        "held = [bytearray(b'x' * (1 << 20)) for _ in range(4000)]",
        Limits(LEAST_MEMORY, 60, 1 << 30),
        "needs more memory than it may take (0.5 GiB); the limit is set by --memory",
    ),
    "all memory at once": (
        "held = bytearray(1 << 45)",
        LIMITS,
        "needs more memory than it may take; the limit is set by --memory",
    ),
    "time": (
        "import time; time.sleep(60)",
        Limits(LEAST_MEMORY, 1.5, 1 << 30),
        "takes longer than it may (2 s); the limit is set by --time-limit",
    ),
    "disk": (
        "import tempfile, time\n"
        "for i in range(9):\n"
        "    open(f'{tempfile.gettempdir()}/{i}', 'wb').write(b'x' * (1 << 20))\n"
        "time.sleep(60)",
        Limits(LEAST_MEMORY, 60, 8 << 20),
        "writes more to the disk than it may (0.0 GiB); the limit is set by --disk",
    ),
    "one large file": (
        "import tempfile; open(f'{tempfile.gettempdir()}/x', 'wb').write(b'x' * (9 << 20))",
        Limits(LEAST_MEMORY, 60, 8 << 20),
        "writes more to the disk than it may",
    ),
    "endless talk": (
        "for i in range(1000):\n    yield Check('x' * (1 << 20), Outcome.PASSED, '')",
        LIMITS,
        "it does not stop talking",
    ),
}


# By default one of each way in which it is noticed: the others with HEIRMARK_FUZZ.
_OTHERS = {"out of memory", "quiet end", "one large file", "all memory at once"}


@pytest.mark.parametrize("name", ENDS)
def test_every_end_is_answered(
    name: str, whole_case: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in _OTHERS and "HEIRMARK_FUZZ" not in os.environ:
        pytest.skip("only with HEIRMARK_FUZZ")
    code, limits, message = ENDS[name]
    _child_does(monkeypatch, code)
    found = apart.verify_apart(VerifyRequest(whole_case), limits)
    assert found.line.startswith("not finished: ")
    # On a machine that is busy, time is up earlier.
    if name != "time":
        assert " recomputed: running the test again " in found.line
        assert {c.name for c in found.checks if c.outcome is Outcome.PASSED} >= {"files", "schema"}
    assert found.line.endswith(". Nothing is said of the result")
    assert message in found.line
    assert "signal" not in found.line
    assert (found.is_intact, found.is_verified, found.is_recomputed) == (False, False, False)
    assert list(folder.iterdir()) == []


def test_a_process_that_cannot_begin_says_nothing_of_the_bundle(
    whole_case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_START", "import no_such_module")
    done = run("verify", whole_case)
    assert done.exit_code == 2
    assert "could not begin (exit code 1): nothing of the bundle was read" in done.output


def test_exceptions_that_nobody_foresaw_speak_against_the_bundle(
    whole_case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Panics in Rust are no Exception, as this is none.
    _child_does(monkeypatch, "raise SystemExit(0)")
    found = apart.verify_apart(VerifyRequest(whole_case), LIMITS)
    assert found.line == "NOT verified: recomputed: the bundle breaks its reader: SystemExit"


def test_the_child_inherits_no_secret_and_reaches_no_network(
    whole_case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("PYTHONSTARTUP", "/x.py")
    monkeypatch.setenv("KEY", "the key's own")
    _child_does(
        monkeypatch,
        "import resource, socket\n"
        "heard = []\n"
        "for asked in (lambda: socket.create_connection(('127.0.0.1', 9)),\n"
        "              lambda: socket.getaddrinfo('localhost', 80)):\n"
        "    try: asked()\n"
        "    except OSError as error: heard.append(type(error).__name__)\n"
        "core = resource.getrlimit(resource.RLIMIT_CORE)\n"
        "yield Check('seen', Outcome.PASSED, json.dumps([dict(os.environ), heard, core]))",
    )
    found = apart.verify_apart(VerifyRequest(whole_case, key_place="env:KEY"), LIMITS)
    seen, heard, core = json.loads(found.checks[-1].detail)
    assert seen.keys() <= apart._PASSED_ON | apart._SET.keys() | {"KEY", "TMPDIR", "LC_CTYPE"}
    assert seen["KEY"] == "the key's own"
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert heard == ["PermissionError", "PermissionError"]
    assert core == [0, 0]


def _hanging(case: Path, place: Path) -> None:
    """A tokenizer whose regular expression takes for ever on a word of the text."""
    path = case / "inputs" / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    split = {"type": "Split", "pattern": {"Regex": "(?:w|w)+!"}}
    content["pre_tokenizer"] = {**split, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(content))
    (case / "inputs" / "text" / "text.txt").write_text(f"{'w' * 20} " * 10_000)
    from watermark.tokens import load_tokenizer

    fingerprint = load_tokenizer(path).fingerprint
    forged(case, place, lambda m, r: m.update(tokenizer_fingerprint=fingerprint))


def test_a_tokenizer_that_never_ends_is_ended(case: Path, place: Path) -> None:
    _hanging(case, place)
    done = run("verify", case, "--key", place / "k.json", "--time-limit", "2s")
    assert done.exit_code == 4
    assert done.stdout.startswith("not finished: ")
    assert "takes longer than it may (2 s)" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_when_it_is_stopped_nothing_goes_on(
    number: signal.Signals, case: Path, place: Path, folder: Path
) -> None:
    _hanging(case, place)
    command = [sys.executable, "-P", "-m", "detect", "verify", case, "--key", place / "k.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    with subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A job in the background starts with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        _wait_for(lambda: bool(list(folder.glob("heirmark-*/*/inputs/text/text.txt"))))
        [child] = _children(process.pid)
        process.send_signal(number)
        out, error = process.communicate(timeout=30)
    _wait_for(lambda: not _is_alive(child))
    # The line break is click's.
    assert (out, error.strip()) == (b"", b"")
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert list(folder.iterdir()) == []


def _wait_for(happened: object) -> None:
    assert callable(happened)
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_limits_are_given_with_their_units(whole_case: Path, place: Path) -> None:
    for wrong in (
        ("--memory", "8"), ("--memory", "-1G"), ("--memory", "0G"), ("--time-limit", "5 years"),
        ("--time-limit", "infs"), ("--disk", "1e9G"),
    ):  # fmt: skip
        done = run("verify", whole_case, *wrong)
        assert done.exit_code == 2
        assert "expected an amount with its unit" in done.output
    done = run("verify", whole_case, "--memory", "1M")
    assert done.exit_code == 2
    assert "less than 512 MiB" in done.output
    found = verified(whole_case, place, "--memory", "1.5G", "--time-limit", "2m", "--disk", "1G")
    assert found["verified"]
    with pytest.raises(ConfigError):
        Limits(LEAST_MEMORY, float("nan"), 1)


def test_what_the_verifier_gave_is_no_fault_of_the_bundle(whole_case: Path, place: Path) -> None:
    done = run("verify", whole_case, "--key", place / "none.json")
    assert done.exit_code == 2
    assert "Error: " in done.output
    assert run("verify", whole_case, "--input", "source=x").exit_code == 2
    for path in (place / "nosuch", place / "k.json"):
        done = run("verify", path)
        assert done.exit_code == 2
        assert "heirmark bundle wrote" in done.output


def test_a_line_that_is_torn_off_or_nonsense_is_not_heard() -> None:
    one = Heard(Told.SO_FAR, Verification("f", (Check("a", Outcome.PASSED, "ü\n", "s"),)))
    two = one._replace(told=Told.DONE, words="w")
    assert hear(tell(one) + tell(two)) == two
    assert hear(tell(one) + tell(two)[:-1]) == one
    for nonsense in (b"", b"x", b"[]\n", b"{}\n", b"[" * 100_000 + b"\n", b'{"checks": 1}\n'):
        assert hear(nonsense) == NOTHING


def test_what_a_machine_lacks_is_told_from_what_a_bundle_does() -> None:
    error = DocumentError("damaged")
    error.__context__ = MemoryError()
    assert stop_of(error) is Stop.MEMORY
    assert stop_of(OSError(28, "No space left on device")) is Stop.DISK
    assert stop_of(OSError(2, "No such file")) is None
    assert stop_of(RuntimeError("DefaultCPUAllocator: can't allocate memory")) is Stop.MEMORY
    assert stop_of(DocumentError("damaged")) is None
