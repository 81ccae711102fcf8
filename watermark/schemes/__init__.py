"""The schemes: one file each, found by name.

`SCHEMES` maps names to classes; it lists every `Scheme` that a file of this folder defines.
"""

from __future__ import annotations

from types import MappingProxyType

from watermark.discovery import classes_of
from watermark.errors import ConfigError
from watermark.schemes.base import Scheme as Scheme

__all__ = ["SCHEMES", "Scheme", "make_scheme"]


SCHEMES = MappingProxyType(classes_of(__name__, __path__, Scheme))  # type: ignore[type-abstract]


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
