"""The commands that a bundle can record, and run again: a list of what is allowed, one entry each.

`heirmark verify` runs nothing else, with no other option, on whatever a bundle asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, final

__all__ = ["COMMON_INPUTS", "RECORDABLE", "SEVERAL", "InputKind", "Recordable"]


_OWN_KEY: Final = "key_path"


@final
class InputKind(StrEnum):
    """What an argument or option of a command points to."""

    FILE = "file"  # or - for standard input
    CORPUS = "corpus"  # a file or a folder of files
    MODEL = "model"  # open weights: never copied, told apart by their hashes
    SUSPECT = "suspect"  # asked, and its answers recorded; or, by weights, a model


@final
@dataclass(frozen=True)
class Recordable:
    """How one command is recorded.

    Attributes:
        kind: of its result.
        inputs: what its parameters point to, by their Python names; config and tokenizer, which all
            commands have, are in `COMMON_INPUTS`.
        options: parameters that decide the result: recorded, and given again.
        running: parameters that only say how it is run the first time: not recorded.
        key: the parameter with the key file; where it is not a test's own key but a master key,
            results name keys derived from it.
    """

    kind: str
    inputs: Mapping[str, InputKind]
    options: frozenset[str]
    running: frozenset[str] = field(default_factory=frozenset)
    key: str = _OWN_KEY

    @property
    def names_key(self) -> bool:
        """True if the result names the key itself."""
        return self.key == _OWN_KEY


COMMON_INPUTS: Final = MappingProxyType(
    {"config_path": InputKind.FILE, "tokenizer": InputKind.FILE}
)
# Parameters that may be given several times.
SEVERAL: Final = frozenset({"controls"})
_TEST: Final = frozenset({"alpha", "score"})
_ASSESSMENT: Final = _TEST | {"n_decoys", "seed"}
_FIELDS: Final = frozenset({"text_field", "ids_field", "id_field"})
_ASKING: Final = frozenset(
    {
        "model", "api_key_envs", "transcript", "concurrency", "requests_per_minute", "timeout",
        "top_log_probs", "price", "max_cost",
    }
)  # fmt: skip

_SAMPLING: Final = frozenset({"access", "max_new_tokens", "temperature", "top_k"})
_SUSPECTS: Final = MappingProxyType(
    {
        "suspect": InputKind.SUSPECT,
        "controls": InputKind.SUSPECT,
        "reference": InputKind.MODEL,
        "own_texts": InputKind.FILE,
        "reading_path": InputKind.FILE,
        "prompts_path": InputKind.FILE,
    }
)

RECORDABLE: Final[Mapping[str, Recordable]] = MappingProxyType(
    {
        "detect": Recordable(
            "text",
            {"text": InputKind.FILE, "prompt_path": InputKind.FILE, "reference": InputKind.MODEL},
            _ASSESSMENT | {"tokens", "temperature"},
        ),
        "locate": Recordable("segments", {"text": InputKind.FILE}, _TEST | {"tokens"}),
        "scan": Recordable(
            "corpus",
            {"source": InputKind.CORPUS},
            _ASSESSMENT | _FIELDS | {"skip_bad", "sample"},
            frozenset({"workers"}),
        ),
        "fraction": Recordable(
            "fraction",
            {"corpus": InputKind.CORPUS, "reference": InputKind.CORPUS},
            _ASSESSMENT | _FIELDS | {"level"},
        ),
        "watch": Recordable("watch", {"source": InputKind.FILE}, frozenset({"alpha", "go_on"})),
        "calibrate": Recordable(
            "calibration",
            {"corpus": InputKind.CORPUS},
            _FIELDS | {"score", "seed", "n_keys", "length"},
        ),
        "probe": Recordable(
            "probe",
            {**_SUSPECTS, "marked_reading": InputKind.FILE},
            _ASSESSMENT | _SAMPLING,
            _ASKING,
        ),
        "trace text": Recordable(
            "trace_text",
            {
                "source": InputKind.CORPUS,
                "accounts": InputKind.FILE,
                "prompt_path": InputKind.FILE,
            },
            _ASSESSMENT | _FIELDS | {"skip_bad", "piece_tokens", "model", "epoch", "cohort"},
            key="master",
        ),
        "trace model": Recordable(
            "trace_model",
            {**_SUSPECTS, "labels_path": InputKind.FILE, "served": InputKind.FILE},
            _ASSESSMENT | _SAMPLING | {"label_model", "epochs", "cohorts", "leaked_documents"},
            _ASKING,
            key="master",
        ),
    }
)
