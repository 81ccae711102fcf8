"""Finding the classes that the files of a folder define, by the names that configs call them."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import TypeVar

__all__ = ["classes_of"]


T = TypeVar("T")


def classes_of(package: str, folders: Iterable[str], base: type[T]) -> dict[str, type[T]]:
    """List the concrete classes of a kind.

    Args:
        package: name of the package that the folders hold.
        folders: its `__path__`.
        base: what they derive from; classes without a `name` are left out.

    Returns:
        Classes by name, in the order of the names.

    Raises:
        RuntimeError: two classes of one name.
    """
    found: dict[str, type[T]] = {}
    for module_info in pkgutil.iter_modules(folders):
        module = import_module(f"{package}.{module_info.name}")
        for item in vars(module).values():
            if not (isinstance(item, type) and issubclass(item, base)):
                continue
            name = getattr(item, "name", None)
            if item.__module__ != module.__name__ or not isinstance(name, str):
                continue
            if found.setdefault(name, item) is not item:
                raise RuntimeError(f"two classes of {package} are called {name!r}")
    return dict(sorted(found.items()))
