from __future__ import annotations

from typing import Any

import pytest

from watermark.errors import ConfigError
from watermark.keyring.labels import KeyLabels
from watermark.keys import LABELS, SecretKey


def test_labels_are_those_of_a_key() -> None:
    assert KeyLabels._fields == LABELS


def test_labels_travel_as_json_and_name_a_key() -> None:
    labels = KeyLabels.from_dict({"model": "m", "epoch": "2026-11", "account": "a-1"})
    assert KeyLabels.from_dict(labels.to_dict()) == labels
    assert labels.name == "m/2026-11/a-1"
    master = SecretKey(bytes(32))
    assert labels.key_from(master) == master.derive(model="m", epoch="2026-11", account="a-1")


@pytest.mark.parametrize("payload", [None, [], {}, {"model": ""}, {"user": "a"}, {"model": 3}])
def test_what_are_no_labels_is_refused(payload: Any) -> None:
    with pytest.raises(ConfigError):
        KeyLabels.from_dict(payload)
