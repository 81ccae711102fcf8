"""Other systems' marks as sources of words, one file each, found by name; no torch needed.

`SOURCES` maps names to classes: our own PRF and every `WordSource` that a file of this folder
defines.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import MappingProxyType

from watermark.errors import ConfigError
from watermark.prf import NativePrf
from watermark.word_sources import WordSource

__all__ = ["SOURCES", "make_source"]


def _discover() -> dict[str, type[WordSource]]:
    found: dict[str, type[WordSource]] = {NativePrf.name: NativePrf}
    for module_info in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{module_info.name}")
        for item in vars(module).values():
            if not (isinstance(item, type) and issubclass(item, WordSource)):
                continue
            if item.__module__ != module.__name__ or not getattr(item, "name", ""):
                continue
            if found.setdefault(item.name, item) is not item:
                raise RuntimeError(f"two sources of words are called {item.name!r}")
    return dict(sorted(found.items()))


SOURCES = MappingProxyType(_discover())


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
