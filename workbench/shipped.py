"""Locates the conf and recipes folders that the package ships, and lists the options of a group."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """Return a top-level folder such as conf: the installed package's copy, or the checkout's."""
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
    """Return the options of a group such as benchmark: the names of its YAML files, shipped or in ./conf."""
    folders = (shipped("conf") / group, Path("conf") / group)
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
