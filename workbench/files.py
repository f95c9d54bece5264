"""Writes files atomically, reads JSON, locks files between processes, and computes fingerprints."""

import glob
import hashlib
import json
import os
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
"""File in a model's folder that reports its scores; it is not part of the model's fingerprint."""

LOCK = ".lock"
"""Name of a folder's lock file; a process that uses the folder locks this file."""

OPEN_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
"""Flags of `os.open`, where the system has them: follow no link, close in child processes, binary."""

LONGEST_JSON = 256 * 2**20
"""Maximum bytes of a JSON file that is read; the largest tokenizers have 35 MB."""


def local_path(path: str | Path) -> Path:
    """Return the path with a leading `~` expanded; `~name` of an unknown user stays."""
    return Path(os.path.expanduser(path))


def write_atomic(path: Path, content: str | bytes) -> None:
    """Create or replace a file: write a temporary file beside it, flush that to disk and rename it.

    Missing folders are created, and a link at `path` is replaced. Secrets in a text are masked; bytes are
    written as they are. A folder at `path` raises DataError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    data = masked(content).encode("utf-8") if isinstance(content, str) else content
    try:
        _write_atomic(path, data)
    except OSError as error:
        error.filename = str(path)  # instead of the temporary name
        del error.filename2
        raise


def write_if_other(path: Path, text: str) -> None:
    """Write a text as `write_atomic` does, unless `path` is a file (not a link) with this text already."""
    if path.is_symlink() or not path.is_file() or path.read_bytes() != masked(text).encode("utf-8"):
        write_atomic(path, text)


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
    """Return the permission bits that this process removes from new files."""
    mask = os.umask(0o077)  # it can't be read without setting it
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value as `write_atomic` does, indented, in UTF-8, and in the given order of keys."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_checked_json(path: Path, value: Any) -> None:
    """Write a JSON value for `read_checked_json`, atomically, as two lines: the JSON's SHA-256, the JSON."""
    text = json.dumps(value)
    write_atomic(path, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def read_checked_json(path: Path) -> Any:
    """Return the value that `write_checked_json` wrote; None: the file is missing, unreadable or changed."""
    try:
        digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        is_unchanged = hashlib.sha256(text.encode()).hexdigest() == digest
        return json.loads(text) if is_unchanged else None
    except (OSError, ValueError):
        return None


def masked_json(value: Any) -> Any:
    """Return a copy of a JSON value with secrets masked: what `read_json` reads after `write_json`."""
    return json.loads(masked(json.dumps(value, ensure_ascii=False)))


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        ValueError: The file isn't JSON, is nested too deeply or too long, or is a pipe, a device or a folder.
        OSError: The file is missing or can't be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    if (size := path.stat().st_size) > LONGEST_JSON:
        raise ValueError(f"{size:,} bytes (at most {LONGEST_JSON:,})")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: The text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def check_readable(path: Path, most_bytes: int) -> None:
    """Check that a path is a regular file of at most `most_bytes` bytes.

    Raises:
        ConfigError: It is a pipe, a device, a folder, a broken link, or too large.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: not a regular file (a device, a pipe, a folder, or a link to nothing)")
    if (size := path.stat().st_size) > most_bytes:
        raise ConfigError(f"{path}: {size:,} bytes (at most {most_bytes:,} are allowed)")


def check_replaceable(path: Path) -> None:
    """Raise DataError if `path`, where a file must be written, is a folder; a link to a folder passes."""
    if path.is_dir() and not path.is_symlink():
        raise DataError(f"{path}: is a folder where a file must be written (move it away)")


def clear_the_way(path: Path) -> Path:
    """Delete a file or link at the path, so that writing there can't go through a link; return the path.

    Raises:
        DataError: There is a folder at the path.
    """
    check_replaceable(path)
    path.unlink(missing_ok=True)
    return path


def open_to_append(path: Path) -> int:
    """Open a file for appending, creating it if it doesn't exist; return its descriptor.

    A file with several hard links is first replaced by a copy, so that its other names don't change.

    Raises:
        DataError: There is a link or a folder at the path.
    """
    prepare_file(path)
    if path.is_file() and path.stat().st_nlink > 1:  # copied, so that the other name of a hard link is safe
        write_atomic(path, path.read_bytes())
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | OPEN_FLAGS, 0o666)


def prepare_file(path: Path) -> None:
    """Create the missing folders above a file to open; raise DataError if the path is a link or a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    if path.is_symlink():
        raise DataError(f"{path}: is a link where a file must be written (remove the link)")


def append(descriptor: int, data: bytes) -> None:
    """Append `data` through a descriptor of `open_to_append`; no other process may write there meanwhile."""
    while data:
        data = data[os.write(descriptor, data) :]


def append_bytes(path: Path, data: bytes) -> None:
    """Append bytes to the file at `path`, which is created or refused as by `open_to_append`."""
    descriptor = open_to_append(path)
    try:
        append(descriptor, data)
    finally:
        os.close(descriptor)


def end_last_line(descriptor: int) -> None:
    """Remove the last line of an open file if it has no newline: a killed process left it incomplete.

    No other process may write meanwhile: the line that it is writing has no newline yet.
    """
    with open(descriptor, "r+b", closefd=False) as file:
        size = end = file.seek(0, os.SEEK_END)
        while end and (file.seek(end - 1), file.read(1))[1] != b"\n":
            end -= 1
        if end < size:
            file.truncate(end)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Lock a file during the block, and yield True; the file is created if missing, and never truncated.

    If another process has locked it, wait for that; without `wait`, yield False and run the block unlocked.

    Raises:
        DataError: There is a link or a folder at the path.
    """
    prepare_file(path)
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
    """Return the path `.NAME.part` beside `path`, at which a large file is written before its renaming."""
    return path.with_name(f".{path.name}.part")


def settle_file(path: Path) -> None:
    """Delete the temporary files of `write_atomic` for `path`, even of a process that is still writing."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        if temporary.is_file() or temporary.is_symlink():
            temporary.unlink()


def fingerprint(value: Any) -> str:
    """Return the SHA-256 (hex) of a value's JSON with sorted keys; what JSON lacks is hashed as its `str`."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_fingerprint(path: Path) -> str:
    """Return the SHA-256 of the relative paths and bytes of a folder's `model_files`, or of one file.

    A file's path relative to itself is `.`, so the result isn't the SHA-256 of the bytes alone. A missing
    path counts as an empty folder.
    """
    files = [path] if path.is_file() else model_files(path)
    return computed_once("sha256", path, files, lambda: _sha256(path, files))


def model_files(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted by path, without the model card and without hidden files.

    Files in a hidden folder count as hidden.
    """
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not is_hidden(file.relative_to(folder)) and file != folder / MODEL_CARD
    )


def is_hidden(path: Path) -> bool:
    """Return whether any part of a relative path, a file's or folder's name, begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def _sha256(path: Path, files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode("utf-8") + b"\0")
        add_file(digest, file)
    return digest.hexdigest()


def add_file(digest: "hashlib._Hash", file: Path) -> None:
    """Update a `hashlib` digest with a file's bytes, reading 1 MiB at a time."""
    with file.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
