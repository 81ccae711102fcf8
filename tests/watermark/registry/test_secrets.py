"""No secret in the database, its side files, what is printed, or what is raised."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from watermark.cli import heirmark
from watermark.config import preset
from watermark.errors import RegistryError
from watermark.keyring.key_files import load_key, save_key
from watermark.keyring.labels import KeyLabels
from watermark.keys import SecretKey
from watermark.registry.database import make_engine, reading
from watermark.registry.registry import Registry

MASTER = SecretKey.generate()
LABELS = KeyLabels("m", "2026-11", "c1", "a-1")


def spellings(key: SecretKey) -> Iterator[bytes]:
    """Every form in which a part of a secret would be seen."""
    for secret in (key.secret, key.subkey("commitment heirmark-1", 32)):
        yield secret[:12]
        yield secret.hex()[:20].encode()
        yield base64.b64encode(secret)[:14]
        yield repr(secret)[2:14].encode()
        yield str(int.from_bytes(secret, "big"))[:20].encode()


def leaks(shown: bytes, *keys: SecretKey) -> bool:
    return any(spelling in shown for key in keys for spelling in spellings(key))


def test_the_search_finds_what_leaks() -> None:
    assert leaks(b"x" + MASTER.secret + b"y", MASTER)
    assert leaks(base64.b64encode(MASTER.secret), MASTER)
    assert not leaks(MASTER.key_id.encode(), MASTER)


def test_nothing_in_the_database(made: str) -> None:
    config = preset("default")
    with Registry.open(made) as registry:
        derived = registry.issue(LABELS, MASTER, config)
        registry.import_keys([LABELS._replace(account=f"b{i}") for i in range(99)], MASTER, config)
        registry.rotate(MASTER, model="m", old_epoch="2026-11", new_epoch="2026-12")
        shown = repr(registry).encode()
        shown += repr(list(registry.keys())).encode()
        content = _all_content(made)
    assert b"2026-12" in content
    assert derived.key_id.encode() in content
    renewed = LABELS._replace(epoch="2026-12").key_from(MASTER)
    assert not leaks(content + shown, MASTER, derived, renewed)


def _all_content(made: str) -> bytes:
    if "://" not in made:
        return b"".join(path.read_bytes() for path in Path(made).parent.iterdir())
    engine, content = make_engine(made, create=False), ""
    with reading(engine) as connection:
        tables = connection.execute(
            text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        )
        for table in tables.scalars().all():
            content += repr(connection.execute(text(f"SELECT * FROM {table}")).all())
    engine.dispose()
    return content.encode()


def test_nothing_in_what_is_raised(made: str) -> None:
    """Even with every local variable's repr in the traceback."""
    with Registry.open(made) as registry:
        registry.issue(LABELS, MASTER, preset("default"))
        with pytest.raises(RegistryError) as caught:
            registry.issue(LABELS, MASTER, preset("gumbel"))
        shown = "".join(
            traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        )
    assert "master = " in shown
    assert not leaks(shown.encode(), MASTER, LABELS.key_from(MASTER))


def test_nothing_in_what_commands_print(tmp_path: Path) -> None:
    save_key(MASTER, tmp_path / "m.key.json")
    (tmp_path / "accounts.txt").write_text("a-1\na-2\n")
    base = ["-r", str(tmp_path / "r.db")]
    master = ["--master", str(tmp_path / "m.key.json")]
    epoch, derived = ["--model", "m", "--epoch", "e"], str(tmp_path / "d.key.json")
    runs = [
        ["init"],
        ["import", str(tmp_path / "accounts.txt"), *master, *epoch],
        ["issue", *master, *epoch, "--account", "a-3", "--output", derived, "--json"],
        ["issue", *master, *epoch, "--account", "a-3", "--output", derived],
        ["issue", *master, *epoch, "--account", "a-3", "--preset", "gumbel"],
        ["list", "--json"],
        ["list", *master],
        ["show"],
        ["export"],
        ["rotate", *master, "--model", "m", "--from", "e", "--to", "f", "--json"],
    ]
    shown = ""
    for run in runs:
        done = CliRunner().invoke(heirmark, ["registry", *run, *base])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        shown += done.output
    key = load_key(derived)
    assert isinstance(key, SecretKey)
    assert key.key_id in shown
    # The refused runs, too, said why.
    assert "exists already" in shown
    assert "issued with the config" in shown
    assert not leaks(shown.encode(), MASTER, key)
    assert json.loads(Path(derived).read_text())["key_id"] == key.key_id
