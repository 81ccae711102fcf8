"""The options that say which keys could be named, and the family that they make."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from detect.commands.options import PATH

if TYPE_CHECKING:
    from detect.tracing.texts.families import KeyFamily
    from watermark.word_sources import WordSource

__all__ = ["FamilyChoice", "family_options"]

Command = Callable[..., None]


class FamilyChoice(NamedTuple):
    """Where a family comes from: labels and a master secret, or a folder of key files.

    Attributes:
        master: key file of the master secret.
        accounts: file with labels.
        keys: folder of key files.
        labels: --model, --epoch and --cohort, of accounts whose line names none.
    """

    master: Path | None
    accounts: str | None
    keys: Path | None
    labels: dict[str, str]

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            click.UsageError: says what is missing, or too much.
        """
        if self.keys and (self.master or self.accounts or any(self.labels.values())):
            raise click.UsageError(
                "--keys names all keys itself; it takes no --master, --accounts or labels"
            )
        if not self.keys and not (self.master and self.accounts):
            raise click.UsageError("give --master FILE with --accounts FILE, or --keys FOLDER")

    def load(self, source: WordSource) -> KeyFamily:
        """Read or derive the keys.

        Args:
            source: what makes the words.

        Returns:
            The family.

        Raises:
            ConfigError: no keys, or some twice, or a line that holds no labels.
            KeyFileError: a key file that is missing, damaged or readable by others.
        """
        from detect.tracing.texts.families import (
            family_from_folder,
            family_from_labels,
            read_labels,
        )
        from watermark.key_files import load_secret
        from watermark.labels import KeyLabels

        if self.keys:
            return family_from_folder(self.keys, source)
        assert self.master is not None
        assert self.accounts is not None
        labels = read_labels(self.accounts, KeyLabels(**self.labels))
        return family_from_labels(labels, load_secret(self.master), source)


def family_options(command: Command) -> Command:
    """Add --master, --accounts, --model, --epoch, --cohort and --keys, as one argument `family`."""

    @wraps(command)
    def with_family(
        *,
        master: Path | None,
        accounts: str | None,
        keys_folder: Path | None,
        model: str,
        epoch: str,
        cohort: str,
        **options: Any,
    ) -> None:
        labels = {"model": model, "epoch": epoch, "cohort": cohort}
        choice = FamilyChoice(master, accounts, keys_folder, labels)
        choice.check()
        command(family=choice, **options)

    decorators = [
        click.option("--master", type=PATH, help="Key file that the accounts' keys derive from."),
        click.option(
            "--accounts",
            metavar="FILE",
            help="Who could be named: JSONL of labels (heirmark registry export), or one account "
            "a line.",
        ),
        click.option("--model", default="", help="The accounts' model, where FILE names none."),
        click.option("--epoch", default="", help="Their epoch, likewise."),
        click.option("--cohort", default="", help="Their cohort, likewise."),
        click.option("--keys", "keys_folder", type=PATH, help="Or a folder of *.key.json."),
    ]
    decorated: Command = with_family
    for decorator in reversed(decorators):
        decorated = decorator(decorated)
    return decorated
