"""Files that one command reads or hashes once, as long as they stay as they are."""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

_results: ContextVar[dict[Hashable, Any] | None] = ContextVar("results", default=None)
"""Purpose and state of files -> what was computed from them; None outside of `reading_once`."""


@contextmanager
def reading_once() -> Iterator[None]:
    """Keep what `computed_once` computes within the block; an outer block's results go on to be used."""
    token = _results.set({} if (outer := _results.get()) is None else outer)
    try:
        yield
    finally:
        _results.reset(token)


def computed_once(purpose: str, folder: Path, files: Iterable[Path], compute: Callable[[], Result]) -> Result:
    """Return the result of `compute`, called again only if one of the files that it reads has changed.

    Args:
        purpose: What is computed, with all that decides the result besides the files.
        folder: That the files are below; it may be renamed. Or the only file itself.
        files: All that `compute` reads.
        compute: Its result must not be changed by the caller.
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
    """Return a value that changes when a file is replaced or written to, and not when it is renamed."""
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
