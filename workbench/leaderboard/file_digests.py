"""Caches fingerprints of predictions files between two leaderboards, while a file is surely unchanged.

A file counts as unchanged if device, inode, size, time of the last write (mtime) and time of the last change
of the inode (ctime) are equal. Whoever writes to a file, replaces the file or sets back its mtime changes its
ctime, which no program can set. Only two writes within one tick of the clock can have the same times. So a
digest is cached only if the file had not changed for some seconds when it was read, by its file system's
clock.

Source: https://git-scm.com/docs/racy-git (the same rule, for git's index).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryFile

from workbench.files import file_fingerprint, read_checked_json, write_checked_json

WORTHWHILE = 100
"""Number of files from which on their digests are cached."""

SETTLED_NANOSECONDS = 3_000_000_000
"""A file must be unchanged for this time before its digest is cached; file systems' clocks tick every 2 s
or faster."""

VERSION = 1


class FileDigests:
    """Cache of files' fingerprints (`file_fingerprint`) by device, inode, size and times of the file."""

    def __init__(self, path: Path) -> None:
        """Read the cache at a path; a missing or damaged cache is empty.

        Also reads the file system's clock, by a temporary file in the path's folder, which must exist.
        """
        self._path = path
        values = read_checked_json(path)
        is_own = isinstance(values, dict) and values.get("version") == VERSION
        self._known: dict[str, str] = values["digests"] if is_own else {}
        self._used: dict[str, str] = {}
        self._latest = _clock(path.parent) - SETTLED_NANOSECONDS

    def digest(self, file: Path) -> str:
        """Return a file's fingerprint: the cached one if the file is surely unchanged, else computed.

        Raises:
            OSError: The file can't be read.
        """
        status = os.stat(file)
        if max(status.st_ctime_ns, status.st_mtime_ns) > self._latest:
            return file_fingerprint(file)
        state = _state(status)
        if state not in self._used:
            digest = self._known.get(state) or file_fingerprint(file)
            if _state(os.stat(file)) != state:  # changed while it was read
                return digest
            self._used[state] = digest
        return self._used[state]

    def write(self) -> None:
        """Write the fingerprints that were used since reading; all others are dropped from the file.

        Nothing is written if the file has exactly these, or if they are fewer than `WORTHWHILE`.
        """
        if self._used.keys() != self._known.keys() and len(self._used) >= WORTHWHILE:
            write_checked_json(self._path, {"version": VERSION, "digests": self._used})


_kept: ContextVar[FileDigests | None] = ContextVar("digests", default=None)


@contextmanager
def keeping_digests(path: Path) -> Iterator[None]:
    """Let `file_digest` use the cache at `path` during the `with` block; write it if there was no error.

    The folder of `path` must exist.
    """
    digests = FileDigests(path)
    token = _kept.set(digests)
    try:
        yield
    finally:
        _kept.reset(token)
    digests.write()


def file_digest(file: Path) -> str:
    """Return a file's fingerprint by `file_fingerprint`, the form in which run.json has it.

    Within `keeping_digests`, it is from the cache if the file is surely unchanged.

    Raises:
        OSError: The file can't be read.
    """
    digests = _kept.get()
    is_known = digests is not None and os.name == "posix"  # elsewhere st_ctime is the time of creation
    return digests.digest(file) if digests is not None and is_known else file_fingerprint(file)


def _state(status: os.stat_result) -> str:
    return " ".join(
        str(value)
        for value in (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
    )


def _clock(folder: Path) -> int:
    """Return the time now by the clock of a folder's file system, in nanoseconds, from a temporary file."""
    with TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_ctime_ns
