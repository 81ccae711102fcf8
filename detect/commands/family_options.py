"""The options that say which keys could be named, and the family that they make."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from detect.commands.options import PATH
from watermark.errors import ConfigError

if TYPE_CHECKING:
    from detect.tracing.texts.families import KeyFamily
    from watermark.keyring.listed_keys import ListedKey
    from watermark.word_sources import WordSource

__all__ = ["FamilyChoice", "family_options"]

Command = Callable[..., None]


class FamilyChoice(NamedTuple):
    """Where a family comes from: labels and a master secret, or a folder of key files.

    Attributes:
        master: place of the master secret.
        accounts: file with labels.
        registry: place of the registry that has them.
        keys: folder of key files.
        labels: --model, --epoch and --cohort: of accounts whose line names none, or of the keys
            that are taken out of the registry.
    """

    master: Path | None
    accounts: str | None
    registry: str | None
    keys: Path | None
    labels: dict[str, str]

    @property
    def kind(self) -> str:
        """What a result may say of it: "folder", "accounts" or "registry"; no place, no secret."""
        if self.keys:
            return "folder"
        return "accounts" if self.accounts else "registry"

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            click.UsageError: says what is missing, or too much.
        """
        derived = self.master or self.accounts or self.registry or any(self.labels.values())
        if self.keys and derived:
            raise click.UsageError(
                "--keys names all keys itself; it takes no --master, --accounts, --registry or "
                "labels"
            )
        if not self.keys and not (self.master and bool(self.accounts) != bool(self.registry)):
            raise click.UsageError(
                "give --master FILE with --accounts FILE or --registry PLACE, or --keys FOLDER"
            )

    def load(self, source: WordSource) -> KeyFamily:
        """Read or derive the keys.

        Args:
            source: what makes the words.

        Returns:
            The family.

        Raises:
            ConfigError: no keys, or some twice, or a line that holds no labels.
            KeyFileError: a key file that is missing, damaged or readable by others.
            RegistryError: the registry cannot be read.
        """
        from detect.tracing.named_keys import derived_keys, keys_of_folder, read_labels
        from detect.tracing.texts.families import family_of
        from watermark.keyring.labels import KeyLabels
        from watermark.keyring.secret_stores import read_secret

        if self.keys:
            return family_of(keys_of_folder(self.keys), source)
        assert self.master is not None
        master = read_secret(self.master)
        if self.accounts:
            listed = read_labels(self.accounts, KeyLabels(**self.labels))
        else:
            listed = self._registered(master.key_id)
        return family_of(derived_keys(master, listed), source)

    def _registered(self, master_key_id: str) -> list[ListedKey]:
        """All keys of the master, retired and revoked ones too: what they marked is out there."""
        from watermark.commands.registry import open_registry

        assert self.registry is not None
        wanted = {label: value for label, value in self.labels.items() if value}
        with open_registry(self.registry) as opened:
            from watermark.registry.records import KeyFilter

            listed = opened.listed(KeyFilter(**wanted, master_key_id=master_key_id))
        if not listed:
            among = f" among {', '.join(wanted.values())}" if wanted else ""
            raise ConfigError(
                f"the registry knows no key that was derived from the master {master_key_id}{among}"
            )
        return listed


def family_options(command: Command) -> Command:
    """Add the options that say which keys could be named, as one argument `family`."""

    @wraps(command)
    def with_family(
        *,
        master: Path | None,
        accounts: str | None,
        registry: str | None,
        keys_folder: Path | None,
        model: str,
        epoch: str,
        cohort: str,
        **options: Any,
    ) -> None:
        labels = {"model": model, "epoch": epoch, "cohort": cohort}
        choice = FamilyChoice(master, accounts, registry, keys_folder, labels)
        choice.check()
        command(family=choice, **options)

    decorators = [
        click.option(
            "--master",
            type=PATH,
            help="Key file (or env:VARIABLE) that the accounts' keys derive from.",
        ),
        click.option(
            "--accounts",
            metavar="FILE",
            help="Who could be named: JSONL of labels (heirmark registry export), or one account "
            "a line.",
        ),
        click.option(
            "--registry",
            metavar="PLACE",
            help="Or a registry, whose keys of that master could be named: SQLite file or URL.",
        ),
        click.option(
            "--model",
            default="",
            help="The accounts' model, where FILE names none; of a registry that model's alone.",
        ),
        click.option("--epoch", default="", help="Their epoch, likewise."),
        click.option("--cohort", default="", help="Their cohort, likewise."),
        click.option("--keys", "keys_folder", type=PATH, help="Or a folder of *.key.json."),
    ]
    decorated: Command = with_family
    for decorator in reversed(decorators):
        decorated = decorator(decorated)
    return decorated
