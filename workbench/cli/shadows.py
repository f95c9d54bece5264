"""Detects files in the current folder that have the name of a package."""

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder, all_suffixes
from pathlib import Path

from workbench.errors import ConfigError
from workbench.shipped import PACKAGE


def shadows(folder: Path) -> list[str]:
    """Return the names of files and folders that are called like an installed package, but not imported.

    Those called like a module of the standard library are left out.

    Args:
        folder: The current folder.

    Raises:
        ConfigError: Python would import such a file or folder instead of the package or standard module.
    """
    other_entries = [entry for entry in sys.path if not is_same(entry, folder)]
    ignored = []
    for name, file in modules(folder):
        is_ours = file == PACKAGE or name in sys.builtin_module_names
        if is_ours or not is_regular(name, other_entries):
            continue
        spec = PathFinder.find_spec(name, sys.path)
        if spec is not None and spec.origin is not None and Path(spec.origin).is_relative_to(folder):
            raise ConfigError(
                f"{file.name}: is imported instead of the package {name!r} (rename it, or start elsewhere)"
            )
        if name not in sys.stdlib_module_names:
            ignored.append(file.name)
    return ignored


def modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield import name and path of each module or package in a folder."""
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in all_suffixes() if path.name.endswith(suffix)), None)
        if suffix and path.is_file():
            yield path.name.removesuffix(suffix), path
        elif (path / "__init__.py").is_file():
            yield path.name, path


def is_regular(name: str, entries: Sequence[str]) -> bool:
    """Return whether these entries of sys.path have a module or a package with __init__.py of this name."""
    spec = PathFinder.find_spec(name, list(entries))
    return spec is not None and spec.origin is not None


def is_same(entry: str, folder: Path) -> bool:
    """Return whether an entry of sys.path is this folder."""
    return Path(entry or ".").resolve() == folder.resolve()
