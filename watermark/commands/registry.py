"""`heirmark registry`: who was served under which key, when, with which config."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watermark.commands.options import PATH, chosen_config, config_options, label_options
from watermark.errors import MissingExtraError, RegistryError
from watermark.keyring.key_files import save_key
from watermark.keyring.labels import KeyLabels
from watermark.keyring.secret_stores import read_secret
from watermark.keys import LABELS
from watermark.storage.files import atomic_writer, dump_json
from watermark.storage.private_files import check_free

if TYPE_CHECKING:
    from watermark.registry.records import IssuedKey, KeyFilter
    from watermark.registry.registry import Registry

__all__ = ["open_registry", "registry"]

_STATES = ("active", "retired", "revoked")
_place = partial(
    click.option,
    "--registry",
    "-r",
    "place",
    envvar="HEIRMARK_REGISTRY",
    show_envvar=True,
    help="SQLite file, or postgresql://USER@HOST/DATABASE.",
)
_master = click.option(
    "--master", required=True, help="Secret of the provider: key file, or env:VARIABLE."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_move = click.option(
    "--move", is_flag=True, help="Accounts that changed their cohort: retire their earlier key."
)
_reason = click.option("--reason", required=True, help="Why; it is kept with the keys.")


@contextmanager
def open_registry(place: str, *, create: bool = False) -> Iterator[Registry]:
    """Open a registry for a command.

    Args:
        place: file or URL.
        create: whether to make it.

    Yields:
        The registry.

    Raises:
        MissingExtraError: SQLAlchemy is not installed.
        RegistryError: it cannot be opened.
    """
    try:
        from watermark.registry.registry import Registry
    except ImportError as error:
        raise MissingExtraError(error.name or "sqlalchemy", "registry") from None
    with Registry.open(place, create=create) as opened:
        yield opened


def _filter_options(command: Any) -> Any:
    command = click.option("--state", type=click.Choice(_STATES), help="Only keys in this state.")(
        command
    )
    command = click.option("--master", help="Only keys of this secret: file, or env:VARIABLE.")(
        command
    )
    for label in reversed(LABELS):
        text = f'Only keys of this {label}; "" for those without.'
        command = click.option(f"--{label}", help=text)(command)
    return command


def _filter(options: dict[str, Any], **more: Any) -> KeyFilter:
    from watermark.registry.records import KeyFilter

    master = options.pop("master", None)
    master_key_id = read_secret(master).key_id if master else None
    return KeyFilter(**options, **more, master_key_id=master_key_id)


@click.group()
def registry() -> None:
    """Keep who was served under which key.

    Models, epochs, cohorts and accounts; no secrets.
    """


@registry.command("init")
@_place(required=True)
def init(place: str) -> None:
    """Make an empty registry, or bring an older one to this version."""
    with open_registry(place, create=True) as opened:
        n_keys = sum(opened.n_keys().values())
    click.echo(f"the registry is ready; it holds {n_keys:,} keys")


@registry.command("issue")
@_place(required=True)
@_master
@label_options
@config_options
@_move
@click.option("--output", "-o", type=PATH, help="Write the derived key there (mode 0600).")
@_json
def issue(
    place: str,
    master: str,
    preset_name: str | None,
    config_path: Path | None,
    move: bool,
    output: Path | None,
    as_json: bool,
    **labels: str,
) -> None:
    """Issue one key.

    It is derived from the master secret; its labels and config are noted.
    """
    config = chosen_config(preset_name, config_path)
    if output:
        # A key that was issued stays issued.
        check_free(output, what="key file")
    with open_registry(place) as opened:
        key = opened.issue(KeyLabels(**labels), read_secret(master), config, move=move)
        issued = opened.key(key.key_id)
    if output:
        save_key(key, output)
    _show([issued], as_json, single=True)


@registry.command("import")
@click.argument("accounts")
@_place(required=True)
@_master
@label_options
@config_options
@_move
@_json
def import_accounts(
    accounts: str,
    place: str,
    master: str,
    preset_name: str | None,
    config_path: Path | None,
    move: bool,
    as_json: bool,
    **labels: str,
) -> None:
    """Issue keys to all ACCOUNTS of a file, or to none.

    One account a line, or JSONL objects of labels: {"account": "a-17", "cohort": "c3"}; - is
    standard input. Labels given as options are those of every line that has none of its own.
    """
    config = chosen_config(preset_name, config_path)
    with open_registry(place) as opened:
        from watermark.registry.account_files import read_accounts

        wanted = read_accounts(accounts, KeyLabels(**labels))
        done = opened.import_keys(wanted, read_secret(master), config, move=move)
    if as_json:
        click.echo(dump_json(done._asdict()), nl=False)
        return
    click.echo(
        f"{done.n_issued:,} keys issued, {done.n_known:,} were there, {done.n_repeated:,} lines "
        f"repeated, {done.n_moved:,} accounts moved"
    )


@registry.command("show")
@click.argument("key_id", required=False)
@_place(required=True)
@label_options
@_json
def show(key_id: str | None, place: str, as_json: bool, **labels: str) -> None:
    """Print the record of a key, or an overview.

    The key is KEY_ID, or that of exactly these labels; without either all keys are counted.
    """
    if key_id and any(labels.values()):
        raise click.UsageError("give KEY_ID or labels, not both")
    with open_registry(place) as opened:
        if key_id:
            _show([opened.key(key_id)], as_json, single=True)
        elif any(labels.values()):
            _show(_found(opened, KeyLabels(**labels)), as_json)
        else:
            _show_overview(opened, as_json)


def _found(opened: Registry, labels: KeyLabels) -> list[IssuedKey]:
    found = opened.keys_of(labels)
    if not found:
        raise RegistryError(
            f"no key has exactly the labels {labels.name!a}, those not given being empty; heirmark "
            "registry list shows keys by some of them"
        )
    return found


def _show_overview(opened: Registry, as_json: bool) -> None:
    names = {f"{label}s": opened.names(label) for label in ("model", "epoch", "cohort")}
    counts = {"n_accounts": len(opened.names("account")), "n_keys": opened.n_keys()}
    if as_json:
        click.echo(dump_json({**names, **counts}), nl=False)
        return
    for kind, found in names.items():
        click.echo(f"{kind:<10}{', '.join(found) or '-'}")
    click.echo(f"{'accounts':<10}{counts['n_accounts']:,}")
    for state, n in opened.n_keys().items():
        click.echo(f"{state:<10}{n:,} keys")


@registry.command("list")
@_place(required=True)
@_filter_options
@_json
def list_keys(place: str, as_json: bool, **options: Any) -> None:
    """List keys in the order of issue; retired and revoked ones too."""
    with open_registry(place) as opened:
        _show(opened.keys(_filter(options)), as_json)


@registry.command("export")
@_place(required=True)
@_filter_options
@click.option("--output", "-o", type=PATH, help="JSONL file.  [default: stdout]")
def export(place: str, output: Path | None, **options: Any) -> None:
    """Write the keys' labels, for trace --accounts.

    A line of JSON a key. Keys out of service carry their state: a revoked one must not accuse its
    account.
    """
    with open_registry(place) as opened:
        listed = opened.listed(_filter(options))
    lines = [json.dumps(key.to_dict(), ensure_ascii=False) for key in listed]
    if output is None:
        click.echo("".join(line + "\n" for line in lines), nl=False)
        return
    # Whose texts are traced is the provider's business.
    with atomic_writer(output, private=True) as file:
        file.writelines(line + "\n" for line in lines)
    click.echo(f"wrote {output}: {len(lines):,} keys")


@registry.command("rotate")
@_place(required=True)
@_master
@click.option("--model", default="", help="The model's name.")
@click.option("--from", "old_epoch", required=True, help="Epoch that ends.")
@click.option("--to", "new_epoch", required=True, help="Epoch that begins.")
@config_options
@_json
def rotate(
    place: str,
    master: str,
    model: str,
    old_epoch: str,
    new_epoch: str,
    preset_name: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Issue a new epoch's keys to all, and retire the old.

    All are those who are active in the old epoch. The config stays each key's own, unless --preset
    or --config is given.
    """
    config = chosen_config(preset_name, config_path) if preset_name or config_path else None
    epochs = {"old_epoch": old_epoch, "new_epoch": new_epoch}
    with open_registry(place) as opened:
        done = opened.rotate(read_secret(master), model=model, **epochs, config=config)
    if as_json:
        click.echo(dump_json(done._asdict()), nl=False)
        return
    click.echo(f"{done.n_issued:,} keys issued for {new_epoch}, {done.n_retired:,} retired")


@registry.command("retire")
@click.argument("key_id", required=False)
@_place(required=True)
@_filter_options
@_reason
def retire(key_id: str | None, place: str, reason: str, **options: Any) -> None:
    """Take keys out of service.

    KEY_ID, or all that the options mean. They stay detectable.
    """
    with open_registry(place) as opened:
        n_changed = opened.retire(_filter(options, key_id=key_id), reason)
    click.echo(f"{n_changed:,} keys retired")


@registry.command("revoke")
@click.argument("key_id", required=False)
@_place(required=True)
@_filter_options
@_reason
def revoke(key_id: str | None, place: str, reason: str, **options: Any) -> None:
    """Mark keys that others may know.

    KEY_ID, or all that the options mean. Whoever has a key can write text that carries its mark:
    text after that day proves nothing.
    """
    with open_registry(place) as opened:
        n_changed = opened.revoke(_filter(options, key_id=key_id), reason)
    click.echo(f"{n_changed:,} keys revoked")


@registry.command("count")
@click.argument("counts")
@_place(required=True)
def count(counts: str, place: str) -> None:
    """Add exchanges and tokens to the sums of keys.

    All of a file or nothing. COUNTS is JSONL, or - for standard input: {"key_id": "hm1-...",
    "n_exchanges": 3, "n_tokens": 410}. Running it twice counts twice.
    """
    with open_registry(place) as opened:
        from watermark.registry.account_files import read_counts

        found = read_counts(counts)
        opened.count(found)
    total = sum(count.n_exchanges for count in found.values())
    click.echo(f"{total:,} exchanges counted under {len(found):,} keys")


def _show(issued: Any, as_json: bool, *, single: bool = False) -> None:
    if as_json:
        payload = [key.to_dict() for key in issued]
        click.echo(dump_json(payload[0] if single else payload), nl=False)
        return
    for key in issued:
        click.echo(_line(key))


def _line(key: IssuedKey) -> str:
    parts = [key.key_id, f"{key.state:<7}", f"{key.issued_at:%Y-%m-%d}", key.labels.name]
    if key.served.n_exchanges:
        parts.append(f"{key.served.n_exchanges:,} exchanges, {key.served.n_tokens:,} tokens")
    if reason := key.revoked_reason or key.retired_reason:
        parts.append(f"({reason})")
    if key.commitment:
        parts.append(f"committed as entry {key.commitment.sequence}")
    return "  ".join(parts)
