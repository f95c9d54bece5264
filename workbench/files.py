"""How files are written, whole or not at all; what they are known by; and how two processes keep apart."""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from workbench.errors import ConfigError, DataError
from workbench.reading_once import computed_once
from workbench.shown import masked

MODEL_CARD = "README.md"
"""Of a model's folder: says what the model scored, and isn't part of it."""

LOCK = ".lock"
"""File of a folder that its process holds."""

OPEN_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
"""Flags of `os.open`, of which each system has some."""


LONGEST_JSON = 256 * 2**20
"""Bytes of a JSON file; the largest tokenizers have 35 MB."""


def local_path(path: str | Path) -> Path:
    """The path with the home folder instead of a leading `~`; of an unknown user the `~name` stays."""
    return Path(os.path.expanduser(path))


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it into place; secrets masked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    data = masked(content).encode("utf-8") if isinstance(content, str) else content
    try:
        _write_atomic(path, data)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # not the temporary name, which says nothing
        raise


def _write_atomic(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def umask() -> int:
    """The rights that this process takes away from each file that it makes."""
    mask = os.umask(0o077)  # there is no way to read it without setting it
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented UTF-8 JSON, atomically and with a stable order of keys as given."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def masked_json(value: Any) -> Any:
    """The value as `write_json` writes it and `read_json` gives it back, secrets masked."""
    return json.loads(masked(json.dumps(value, ensure_ascii=False)))


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        ValueError: it isn't JSON, nested too deeply or too long to be read, or a pipe, a device or a folder.
    """
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    if (size := path.stat().st_size) > LONGEST_JSON:
        raise ValueError(f"{size:,} bytes (at most {LONGEST_JSON:,})")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it isn't JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def check_readable(path: Path, most_bytes: int) -> None:
    """Refuse what would be read without end or at length: a pipe, a device, a file beyond all measure.

    Raises:
        ConfigError: names it.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: not a file that can be read (a device, a pipe, a folder or a broken link)"
        )
    if (size := path.stat().st_size) > most_bytes:
        raise ConfigError(f"{path}: {size:,} bytes (at most {most_bytes:,} can be meant)")


def check_replaceable(path: Path) -> None:
    """Raise DataError where something else than a file lies at the path of a file that is to be written."""
    if path.is_dir() and not path.is_symlink():
        raise DataError(f"{path}: a folder lies where a file is to be written (move it away)")


def clear_the_way(path: Path) -> Path:
    """The path, at which no earlier file or link lies any more: what is written there goes nowhere else.

    Raises:
        DataError: a folder lies there.
    """
    check_replaceable(path)
    path.unlink(missing_ok=True)
    return path


def open_to_append(path: Path) -> int:
    """A descriptor that adds to a file, which is made where there is none; never to what a link points at.

    Raises:
        DataError: a link or a folder lies there.
    """
    refuse_link(path)
    if path.is_file() and path.stat().st_nlink > 1:  # a hard link to a file elsewhere gets a copy of its own
        write_atomic(path, path.read_bytes())
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | OPEN_FLAGS, 0o666)


def refuse_link(path: Path) -> None:
    """Make the folder of a file that is to be opened, and raise DataError if a link or a folder is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    if path.is_symlink():
        raise DataError(f"{path}: a link lies where a file is to be written (remove the link)")


def append(descriptor: int, data: bytes) -> None:
    """Add all of `data` to the end of a file, which no other process writes to."""
    while data:
        data = data[os.write(descriptor, data) :]


def append_bytes(path: Path, data: bytes) -> None:
    """Add to the end of a file, as `open_to_append` allows it."""
    descriptor = open_to_append(path)
    try:
        append(descriptor, data)
    finally:
        os.close(descriptor)


def end_last_line(descriptor: int) -> None:
    """Cut off a last line without an end: a process was killed while it wrote it."""
    with open(descriptor, "r+b", closefd=False) as file:
        size = whole = file.seek(0, os.SEEK_END)
        while whole and (file.seek(whole - 1), file.read(1))[1] != b"\n":
            whole -= 1
        if whole < size:
            file.truncate(whole)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock that a file stands for; False where another process has it and `wait` is not given.

    The file is made where there is none. It is never emptied, and a link is not followed.

    Raises:
        DataError: a link or a folder lies there.
    """
    refuse_link(path)
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def part_of(path: Path) -> Path:
    """Where a large file is written until it is whole; a killed process's next try writes it anew."""
    return path.with_name(f".{path.name}.part")


LONGEST_NAME = 255
"""Bytes of a file's or folder's name that file systems take."""

LONGEST_PATH = 4096
"""Bytes of a whole path."""


def check_folder(key: str, path: Path) -> None:
    """Raise ConfigError where a file lies at `path`, which `key` names, or above it, or no folder can be."""
    too_long = [part for part in path.parts if len(os.fsencode(part)) > LONGEST_NAME]
    if too_long or len(os.fsencode(path)) > LONGEST_PATH:
        name = too_long[0] if too_long else str(path)
        size, most = len(os.fsencode(name)), LONGEST_NAME if too_long else LONGEST_PATH
        raise ConfigError(f"{key}: a name of {size} bytes, {name[:40] + '...'!r} (at most {most})")
    if not str(path).isprintable():
        raise ConfigError(f"{key}: {str(path)!r} holds control characters")
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(f"{key}: {str(place)!r} is a file, no folder")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `path` when the block ends well, and vanishes when it doesn't."""
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
        for inner in temporary.rglob("*"):  # safetensors lets nobody but the owner read
            os.chmod(inner, (0o777 if inner.is_dir() else 0o666) & ~mask)
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            os.replace(path, old / path.name)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def settle_folder(path: Path) -> None:
    """Clear away what `new_folder` left around `path` when its process was killed; an old folder comes back.

    A process that is still writing is left alone, and so is what a link of such a name points at.
    """
    name = glob.escape(path.name)
    for old in sorted(path.parent.glob(f".{name}.old.????????/")):
        if old.is_symlink():
            continue
        if not path.exists() and (old / path.name).exists():
            os.replace(old / path.name, path)
        shutil.rmtree(old)
    for left in path.parent.glob(f".{name}.????????/"):
        if left.is_symlink():
            continue
        with locked(left / LOCK, wait=False) as is_left:
            pass
        if is_left:
            shutil.rmtree(left)


def settle_file(path: Path) -> None:
    """Delete what `write_atomic` left beside `path` when its process was killed."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        if left.is_file() or left.is_symlink():
            left.unlink()


def fingerprint(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 hex digits."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of the names and bytes of a folder's files, hidden ones and its card left out."""
    files = [path] if path.is_file() else model_files(path)
    return computed_once("sha256", path, files, lambda: _sha256(path, files))


def model_files(folder: Path) -> list[Path]:
    """All files below a folder in the order of their names, hidden ones and its card left out."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".") and file != folder / MODEL_CARD
    )


def _sha256(path: Path, files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode("utf-8") + b"\0")
        add_file(digest, file)
    return digest.hexdigest()


def add_file(digest: "hashlib._Hash", file: Path) -> None:
    """Add a file's bytes to a checksum, a little of it in memory at a time."""
    with file.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
