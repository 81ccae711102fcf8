"""Every error heirmark raises on purpose, in one tree under `WatermarkError`.

A message says what was expected, what was got and what to do next. It never contains a secret.
"""

from __future__ import annotations

__all__ = [
    "BrowserError",
    "CommitmentError",
    "ConfigError",
    "DocumentError",
    "EvidenceError",
    "FingerprintError",
    "GenerationError",
    "KeyFileError",
    "MissingExtraError",
    "ModelError",
    "RegistryError",
    "RequestError",
    "ResultError",
    "WatermarkError",
]


class WatermarkError(Exception):
    """The root: catching it catches everything that heirmark reports on purpose."""


class ConfigError(WatermarkError, ValueError):
    """A watermark configuration or parameter that cannot be used."""


class KeyFileError(WatermarkError):
    """A key file that is missing, damaged, or readable by others."""


class FingerprintError(WatermarkError, ValueError):
    """Two things that must belong together (tokenizer, config, key) do not."""


class DocumentError(WatermarkError, ValueError):
    """An input document or corpus that cannot be read; names file and line.

    Attributes:
        reason: one word for it, by which a scan counts such documents.
    """

    def __init__(self, message: str, *, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class GenerationError(WatermarkError):
    """Generation that would come out unmarked or wrong (greedy, NaN logits, keys per row)."""


class ModelError(WatermarkError):
    """A model folder that is missing, incomplete, or unsafe to load."""


class CommitmentError(WatermarkError, ValueError):
    """A commitment, its log or a time stamp that does not hold, or an entry that cannot be made."""


class RegistryError(WatermarkError):
    """A registry that cannot be opened, or a request that its records speak against."""


class RequestError(WatermarkError, ValueError):
    """A request that a server's marking policy refuses; engines answer it with HTTP 400."""


class ResultError(WatermarkError, ValueError):
    """A result file that is not one of ours, or an evidence rule that was broken."""


class EvidenceError(WatermarkError, ValueError):
    """An evidence bundle that is not intact, or a test that cannot be put into one."""


class BrowserError(WatermarkError):
    """A browser that prints a page is missing, or failed; says what to install."""


class MissingExtraError(WatermarkError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}, which is not installed; "
            f"install it with: pip install 'heirmark[{extra}]'"
        )
