"""Other systems' marks as sources of words, one file each, found by name; no torch needed.

`SOURCES` maps names to classes: our own PRF and every `WordSource` that a file of this folder
defines.
"""

from __future__ import annotations

from types import MappingProxyType

from watermark.discovery import classes_of
from watermark.errors import ConfigError
from watermark.prf import NativePrf
from watermark.word_sources import WordSource

__all__ = ["SOURCES", "make_source"]


_FOREIGN = classes_of(__name__, __path__, WordSource)  # type: ignore[type-abstract]
SOURCES = MappingProxyType[str, type[WordSource]]({NativePrf.name: NativePrf, **_FOREIGN})


def make_source(name: str, parameters: dict[str, object]) -> WordSource:
    """Build a source from its name and parameters.

    Args:
        name: a name in `SOURCES`.
        parameters: keyword arguments of the source.

    Returns:
        The source.

    Raises:
        ConfigError: unknown name or parameter, or a value out of range.
    """
    if name not in SOURCES:
        raise ConfigError(f"unknown PRF {name!r}; expected one of {', '.join(SOURCES)}")
    try:
        return SOURCES[name](**parameters)
    except TypeError as error:
        allowed = ", ".join(getattr(SOURCES[name], "__dataclass_fields__", ())) or "none"
        raise ConfigError(
            f"PRF {name!r} takes the parameters: {allowed}; got {', '.join(parameters) or 'none'}"
        ) from error
