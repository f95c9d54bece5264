"""Files in the current folder that have the name of a package."""

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder, all_suffixes
from pathlib import Path

from workbench.errors import ConfigError
from workbench.shipped import PACKAGE


def shadows(folder: Path) -> list[str]:
    """The files of a folder that have the name of an installed package and are not imported instead of it.

    Raises:
        ConfigError: one would be, since Python looks into this folder first.
    """
    elsewhere = [place for place in sys.path if not is_same(place, folder)]
    ignored = []
    for name, file in modules(folder):
        own = file == PACKAGE or name in sys.builtin_module_names
        if own or not is_regular(name, elsewhere):
            continue
        found = PathFinder.find_spec(name, sys.path)
        if found is not None and found.origin is not None and Path(found.origin).is_relative_to(folder):
            raise ConfigError(
                f"{file.name}: is imported instead of the package {name!r} (rename it, or start elsewhere)"
            )
        if name not in sys.stdlib_module_names:
            ignored.append(file.name)
    return ignored


def modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """What could be imported from a folder: the name, and the file or folder."""
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in all_suffixes() if path.name.endswith(suffix)), None)
        if suffix and path.is_file():
            yield path.name.removesuffix(suffix), path
        elif (path / "__init__.py").is_file():
            yield path.name, path


def is_regular(name: str, places: Sequence[str]) -> bool:
    """Whether a module or a package with an __init__.py of this name lies in one of the places."""
    found = PathFinder.find_spec(name, list(places))
    return found is not None and found.origin is not None


def is_same(place: str, folder: Path) -> bool:
    """Whether an entry of sys.path is this folder."""
    return Path(place or ".").resolve() == folder.resolve()
