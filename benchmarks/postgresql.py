"""A throw-away PostgreSQL from Debian's binaries: real, for tests and timings, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PostgresqlMissing", "postgresql"]

_USER = "heirmark"


class PostgresqlMissing(Exception):
    """PostgreSQL cannot be started here; the message says why."""


@contextmanager
def postgresql(*, fsync: bool) -> Iterator[str]:
    """Run a server of our own, on a socket in a folder of its own; no port, no network.

    Args:
        fsync: whether it waits for the disk, as it does by default; tests need not.

    Yields:
        URL of its database "postgres". Others are made by CREATE DATABASE.

    Raises:
        PostgresqlMissing: no binaries, or nobody to run them.
    """
    binaries = _binaries()
    # Short, since a socket's path has at most 107 bytes; and not in a folder of root's alone.
    folder = Path(tempfile.mkdtemp(prefix="heirmark-pg-"))
    try:
        as_user = _as_user(folder)
        data = folder / "data"
        made = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        _run([*as_user, f"{binaries}/initdb", f"--username={_USER}", *made, f"--pgdata={data}"])
        settings = f"-k {folder} -c listen_addresses= -c fsync={'on' if fsync else 'off'}"
        control = [*as_user, f"{binaries}/pg_ctl", f"--pgdata={data}", "-w"]
        _run([*control, f"--log={folder}/log", f"--options={settings}", "start"])
        try:
            yield f"postgresql://{_USER}@/postgres?host={folder}"
        finally:
            _run([*control, "--mode=immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    # Debian keeps them off the path, one folder a version.
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    if on_path := shutil.which("initdb"):
        return Path(on_path).parent
    raise PostgresqlMissing("no PostgreSQL server here; on Debian: apt-get install postgresql")


def _as_user(folder: Path) -> list[str]:
    """Return what starts a command as somebody who may run a server: it refuses root."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise PostgresqlMissing("PostgreSQL refuses root, and there is no user postgres") from None
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise PostgresqlMissing(f"{command[-1]}: {(done.stderr or done.stdout)[-300:]}")
