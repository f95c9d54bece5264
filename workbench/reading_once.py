"""Caches in memory, during a `reading_once` block, what is computed from files, until a file changes."""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

_results: ContextVar[dict[Hashable, Any] | None] = ContextVar("results", default=None)
"""Purpose and state of files -> result computed from the files; None outside of `reading_once`."""


@contextmanager
def reading_once() -> Iterator[None]:
    """Cache the results of `computed_once` in memory during the block, after which they are dropped.

    A nested block uses the outer block's cache.
    """
    token = _results.set({} if (outer := _results.get()) is None else outer)
    try:
        yield
    finally:
        _results.reset(token)


def computed_once(purpose: str, folder: Path, files: Iterable[Path], compute: Callable[[], Result]) -> Result:
    """Return the result of `compute`, the same object again as long as no file changes.

    Outside of a `reading_once` block, `compute` is called each time.

    Args:
        purpose: Name of the computation, with everything besides the files that decides its result.
        folder: Folder above all files, or the only file. Renaming it doesn't invalidate the cached result.
        files: All files that `compute` reads.
        compute: Function that computes the result. Callers must not change the result.
    """
    results = _results.get()
    if results is None:
        return compute()
    key = (purpose, *((str(file.relative_to(folder)), *_state(file)) for file in files))
    if key not in results:
        results[key] = compute()
    result: Result = results[key]
    return result


def _state(file: Path) -> tuple[int, int, int, int]:
    """Return device, inode, size and mtime, which change if a file is written, but not if it is renamed."""
    status = os.stat(file)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
