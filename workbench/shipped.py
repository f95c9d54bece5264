"""Where the package's own files lie, and which options a group offers."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """The package's copy of a top-level folder when installed, the checkout's own otherwise."""
    installed = PACKAGE / f"_{folder}"
    return installed if installed.is_dir() else PACKAGE.parent / folder


def options(group: str) -> list[str]:
    """The names that can be chosen of a group, such as benchmark."""
    folders = (shipped("conf") / group, Path("conf") / group)
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
