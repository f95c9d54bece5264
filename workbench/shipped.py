"""Locates the conf and recipes folders that the package ships, and lists the options of a group."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """Return the path of a shipped folder, conf or recipes, in the installed package or in the checkout."""
    installed = PACKAGE / f"_{folder}"
    return installed if installed.is_dir() else PACKAGE.parent / folder


def public_path(path: str | None) -> str | None:
    """Return a path to be published: a path inside this package becomes relative, as `workbench/toy/base`.

    Any other path, and None, are returned as they are.
    """
    if path and Path(path).is_relative_to(PACKAGE):
        return str(Path(PACKAGE.name) / Path(path).relative_to(PACKAGE))
    return path


def options(group: str) -> list[str]:
    """Return the sorted options of a group such as benchmark: the stems of its YAML files.

    These are the shipped files and those in ./conf/GROUP.
    """
    folders = (shipped("conf") / group, Path("conf") / group)
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
