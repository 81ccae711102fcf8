"""The schemes: one file each, found by name.

`SCHEMES` maps names to classes; it lists every `Scheme` that a file of this folder defines.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import MappingProxyType

from watermark.errors import ConfigError
from watermark.schemes.base import Scheme as Scheme

__all__ = ["SCHEMES", "Scheme", "make_scheme"]


def _discover() -> dict[str, type[Scheme]]:
    found: dict[str, type[Scheme]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{module_info.name}")
        for item in vars(module).values():
            if not (isinstance(item, type) and issubclass(item, Scheme) and item is not Scheme):
                continue
            if found.setdefault(item.name, item) is not item:
                raise RuntimeError(f"two schemes are called {item.name!r}")
    return dict(sorted(found.items()))


SCHEMES = MappingProxyType(_discover())


def make_scheme(name: str, parameters: dict[str, object]) -> Scheme:
    """Build a scheme from its name and parameters.

    Args:
        name: a name in `SCHEMES`.
        parameters: keyword arguments of the scheme.

    Returns:
        The scheme.

    Raises:
        ConfigError: unknown name or parameter, or a value out of range.
    """
    if name not in SCHEMES:
        raise ConfigError(f"unknown scheme {name!r}; expected one of {', '.join(SCHEMES)}")
    try:
        return SCHEMES[name](**parameters)
    except TypeError as error:
        if isinstance(error, ConfigError):
            raise
        allowed = ", ".join(SCHEMES[name]().parameters()) or "none"
        raise ConfigError(
            f"scheme {name!r} takes the parameters: {allowed}; got {', '.join(parameters)}, or a "
            "value that is no number"
        ) from error
