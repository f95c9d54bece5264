"""Creates folders atomically, completes or removes what a killed process left, and checks folder paths."""

import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import ConfigError
from workbench.files import LOCK, locked, umask

log = logging.getLogger("workbench")

LONGEST_NAME = 255
"""Maximum bytes of a file or folder name, as file systems allow."""

LONGEST_PATH = 4096
"""Maximum bytes of a path, as the system allows."""


def check_folder(key: str, path: Path) -> None:
    """Check that `path`, the value of the configuration key `key`, is a folder or can become one.

    Raises:
        ConfigError: The path is too long, has control characters, or is or passes through a file.
    """
    too_long = [name for name in path.parts if len(os.fsencode(name)) > LONGEST_NAME]
    if too_long or len(os.fsencode(path)) > LONGEST_PATH:
        name = too_long[0] if too_long else str(path)
        size, limit = len(os.fsencode(name)), LONGEST_NAME if too_long else LONGEST_PATH
        raise ConfigError(f"{key}: a name of {size} bytes, {name[:40] + '...'!r} (at most {limit})")
    if not str(path).isprintable():
        raise ConfigError(f"{key}: {str(path)!r} has control characters")
    for folder in (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{key}: {str(folder)!r} is a file, not a folder")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a locked temporary folder beside `path` to write into.

    If the block succeeds, the temporary folder replaces `path` and all that is in it. If the block fails, the
    temporary folder is deleted, and `path` stays as it was.

    Raises:
        DataError: There is a link or a folder in the place of the lock file of a temporary folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    settle_folder(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    lock = temporary / LOCK
    try:
        with locked(lock, wait=False):
            yield temporary
        lock.unlink(missing_ok=True)
        mask = umask()
        os.chmod(temporary, 0o777 & ~mask)
        for child in temporary.rglob("*"):  # safetensors makes files that only the owner can read
            os.chmod(child, (0o777 if child.is_dir() else 0o666) & ~mask)
        if path.exists():
            _replace_folder(path, temporary)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _replace_folder(path: Path, new: Path) -> None:
    """Rename the folder `new` to `path` and delete the folder that was there; on failure, put that back."""
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    replaced = aside / path.name
    try:
        os.replace(path, replaced)
        os.replace(new, path)
    except BaseException:
        if replaced.exists() and not path.exists():
            os.replace(replaced, path)
        aside.rmdir()
        raise
    shutil.rmtree(aside)


def settle_folder(path: Path) -> None:
    """Delete the temporary folders that a killed `new_folder` left beside `path`.

    If `path` is missing because the process was killed between two renames, the old folder is put back. The
    temporary folder of a process that is still writing stays. Links are ignored.

    Raises:
        DataError: There is a link or a folder in the place of the lock file of a temporary folder.
    """
    name = glob.escape(path.name)
    for old in sorted(path.parent.glob(f".{name}.old.????????/")):
        if old.is_symlink():
            continue
        if not path.exists() and (old / path.name).exists():
            os.replace(old / path.name, path)
        _delete_leftover(old)
    for temporary in path.parent.glob(f".{name}.????????/"):
        if temporary.is_symlink():
            continue
        with locked(temporary / LOCK, wait=False) as is_abandoned:
            pass
        if is_abandoned:
            _delete_leftover(temporary)


def _delete_leftover(folder: Path) -> None:
    """Delete a folder that a killed process left, and log its size."""
    size = sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
    shutil.rmtree(folder)
    if size:
        log.info("%s: deleted, a process that was killed had left it (%.2f GB)", folder, size / 1e9)
