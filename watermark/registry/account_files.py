"""Lists of accounts, as files name them: one a line, or JSON objects of labels."""

from __future__ import annotations

import json
from pathlib import Path

from watermark.errors import DocumentError, WatermarkError
from watermark.keyring.labels import KeyLabels
from watermark.keyring.listed_keys import ListedKey
from watermark.registry.names import check_labels
from watermark.registry.records import Exchanges
from watermark.storage.files import filled_lines

__all__ = ["read_accounts", "read_counts"]


def read_accounts(path: str | Path, common: KeyLabels) -> list[KeyLabels]:
    """Read whom keys shall be issued to.

    Args:
        path: the file, or "-" for standard input: JSONL objects of labels, such as
            {"account": "a-17", "cohort": "c3"}, or plain text with one account a line.
        common: labels of every line that does not say otherwise.

    Returns:
        The labels, one for each line that is not blank.

    Raises:
        DocumentError: no line, or one that names no account or cannot be taken; names the line.
    """
    lines = filled_lines(path)
    if not lines:
        raise DocumentError(f"{path} names no accounts; expected one a line")
    as_json = lines[0][1].lstrip().startswith("{")
    found = []
    for number, line in lines:
        try:
            labels = _from_json(line, common) if as_json else common._replace(account=line.strip())
            check_labels(labels)
        except WatermarkError as error:
            raise DocumentError(f"{path}, line {number}: {error}") from None
        if not labels.account:
            raise DocumentError(f'{path}, line {number}: expected a text in "account"')
        found.append(labels)
    return found


def _from_json(line: str, common: KeyLabels) -> KeyLabels:
    listed = ListedKey.from_line(line, common)
    if listed.state != "active":
        raise DocumentError(
            f"this key was {listed.state}, and keys are issued only once; leave such lines out "
            "(heirmark registry export --state active)"
        )
    return listed.labels


def read_counts(path: str | Path) -> dict[str, Exchanges]:
    """Read what was served, to be counted.

    Args:
        path: the file, or "-": JSONL objects with "key_id", "n_exchanges" and "n_tokens"; what
            several lines say of one key is added up.

    Returns:
        The sums by key id.

    Raises:
        DocumentError: no line, or one that is not like that; names the line.
    """
    counts: dict[str, Exchanges] = {}
    for number, line in filled_lines(path):
        try:
            payload = json.loads(line)
            key_id, more = payload["key_id"], Exchanges(payload["n_exchanges"], payload["n_tokens"])
            if not isinstance(key_id, str):
                raise TypeError
            before = counts.get(key_id, Exchanges(0, 0))
            counts[key_id] = Exchanges(*map(sum, zip(before, more.checked(), strict=True)))
        except (ValueError, KeyError, TypeError, RecursionError, WatermarkError):
            raise DocumentError(
                f'{path}, line {number}: expected a JSON object with "key_id" and the numbers '
                '"n_exchanges" and "n_tokens"'
            ) from None
    if not counts:
        raise DocumentError(f"{path} is empty; expected JSON objects, one a line")
    return counts
