"""Keys by file and by environment variable, and what never shows."""

from __future__ import annotations

import base64
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner

from watermark.cli import heirmark
from watermark.errors import KeyFileError
from watermark.keyring.key_files import save_key
from watermark.keyring.secret_stores import read_key, read_secret
from watermark.keys import EngineKey, SecretKey

SECRET = bytes(range(32))
IN_BASE64 = base64.b64encode(SECRET).decode()
KEY = SecretKey(SECRET)


def test_a_file_with_and_without_its_scheme(tmp_path: Path) -> None:
    save_key(KEY, tmp_path / "a.key.json")
    assert read_key(tmp_path / "a.key.json") == KEY
    assert read_key(f"file:{tmp_path}/a.key.json") == KEY


def test_a_file_may_have_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_key(KEY, "keys:2026")
    assert read_key("keys:2026") == KEY


@pytest.mark.parametrize("text", [IN_BASE64, f"  {IN_BASE64}\n"])
def test_a_variable_in_base64(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("A_MASTER", text)
    assert read_secret("env:A_MASTER") == KEY


def test_a_variable_with_a_key_files_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine's key keeps its salt, without which its key id would be another."""
    key = EngineKey([15485863])
    save_key(key, tmp_path / "e.key.json")
    monkeypatch.setenv("A_MASTER", (tmp_path / "e.key.json").read_text())
    assert read_key("env:A_MASTER").key_id == key.key_id
    with pytest.raises(KeyFileError, match="another engine's key"):
        read_secret("env:A_MASTER")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "not set"),
        (" ", "not set or empty"),
        (IN_BASE64[:-8], "does not hold 32 bytes"),
        (SECRET.hex(), "does not hold 32 bytes"),
        (IN_BASE64[:20] + "!" + IN_BASE64[20:], "does not hold 32 bytes"),
        ('{"secret": "' + IN_BASE64 + '"}', "not an intact"),
    ],
)
def test_a_variable_without_a_key_is_refused_unquoted(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str
) -> None:
    monkeypatch.delenv("A_MASTER", raising=False)
    if value is not None:
        monkeypatch.setenv("A_MASTER", value)
    with pytest.raises(KeyFileError, match=expected) as caught:
        read_key("env:A_MASTER")
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(part in shown for part in (IN_BASE64[:12], SECRET.hex()[:16]))


@pytest.mark.parametrize("place", [f"env:{IN_BASE64}", "env:", "env:A B", "env:A=B"])
def test_what_is_no_variables_name_is_not_quoted(place: str) -> None:
    with pytest.raises(KeyFileError, match="name of an environment variable") as caught:
        read_key(place)
    assert IN_BASE64 not in str(caught.value)


def test_an_unknown_kind_of_store_is_named() -> None:
    with pytest.raises(KeyFileError, match="'vault'; expected a key file, file:PATH or env:VAR"):
        read_key("vault:transit/heirmark")


def test_commands_take_a_variable(tmp_path: Path) -> None:
    target = str(tmp_path / "d.key.json")
    done = CliRunner().invoke(
        heirmark, ["keys", "derive", "env:A_MASTER", target, "--account", "a-1"],
        env={"A_MASTER": IN_BASE64},
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert read_key(target) == KEY.derive(account="a-1")
    assert IN_BASE64 not in done.output


_LETTERS = SecretKey(bytes(range(0xA0, 0xC0)))
_UNPADDED = base64.urlsafe_b64encode(_LETTERS.secret).decode().rstrip("=")
_SPELLINGS = [
    IN_BASE64, IN_BASE64.rstrip("="), SECRET.hex(), SECRET.hex().upper(), f" {IN_BASE64}",
    base64.b64encode(bytes(range(0xDF, 0xFF))).decode(), _UNPADDED,
    f'{{"format": "heirmark-key-1", "secret": "{IN_BASE64}"}}',
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["", "file:"])
@pytest.mark.parametrize("secret", _SPELLINGS)
def test_a_secret_in_place_of_a_path_is_not_quoted(secret: str, scheme: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        read_key(scheme + secret)
    assert secret.strip()[:12] not in str(caught.value)
    assert IN_BASE64[:12] not in str(caught.value)


@pytest.mark.parametrize("secret", [_LETTERS.secret.hex(), "A" * 43])
def test_a_secret_in_place_of_a_variables_name_is_not_quoted(secret: str) -> None:
    with pytest.raises(KeyFileError, match="that was named is not set") as caught:
        read_key(f"env:{secret}")
    assert secret not in str(caught.value)


def test_a_file_that_is_called_like_a_secret_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_key(KEY, "0" * 64)
    assert read_key("0" * 64) == KEY


def test_no_command_quotes_a_secret_in_place_of_a_path(tmp_path: Path) -> None:
    from detect.cli import heirmark as all_commands

    text, registry = tmp_path / "a.txt", str(tmp_path / "r.db")
    text.write_text("Some words.")
    runner = CliRunner()
    assert runner.invoke(all_commands, ["registry", "init", "-r", registry]).exit_code == 0
    for command in (
        ["keys", "show", IN_BASE64],
        ["keys", "derive", IN_BASE64, str(tmp_path / "d.json"), "--account", "a"],
        ["detect", str(text), "--key", IN_BASE64],
        ["scan", str(text), "--key", IN_BASE64],
        ["registry", "issue", "-r", registry, "--master", IN_BASE64, "--account", "a"],
        ["commitments", "add", str(tmp_path / "log"), "--key", IN_BASE64, "--opening",
         str(tmp_path / "o"), "--alpha", "1e-6"],
        ["trace", "text", str(text), "--master", IN_BASE64, "--accounts", str(text)],
    ):  # fmt: skip
        done = runner.invoke(all_commands, command)
        assert done.exit_code == 1, (command, done.output)
        assert "looks like a secret" in done.output, (command, done.output)
        assert IN_BASE64[:12] not in done.output, command
