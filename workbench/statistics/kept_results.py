"""Stores the results of slow computations in a file, and reuses them for equal inputs.

The key of a result is the SHA-256 of its inputs; the file is valid for one program, that is the source files
of this package and the versions of numpy and scipy. So a stored result is, to the last bit, the one that
would be computed.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from workbench.files import read_checked_json, write_checked_json

WORTHWHILE = 100
"""Minimum number of results that are written to a file; fewer are computed as fast as read."""

PACKAGE = Path(__file__).parent

Input = NDArray[Any] | float


class KeptResults:
    """Results of computations, read from a file and written back to it, by the digest of their inputs.

    Only the results that were used or computed since the file was read are written back.
    """

    def __init__(self, path: Path) -> None:
        """Read the stored results; a damaged file, or one of another version of the program, has none."""
        self._path = path
        self._known = _read(path)
        self._used: dict[str, list[float]] = {}

    def result(
        self, purpose: str, inputs: Sequence[Input], compute: Callable[[], list[float]]
    ) -> list[float]:
        """Return the result for these inputs from the file or this object; else compute it and keep it here.

        Args:
            purpose: Name of the computation.
            inputs: All that the result depends on besides the program.
            compute: Returns the result, which callers must not change.
        """
        key = _digest(purpose, inputs)
        if key not in self._used:
            self._used[key] = self._known[key] if key in self._known else compute()
        return self._used[key]

    def write(self) -> None:
        """Write the results that were used or computed since reading; nothing else stays in the file.

        Nothing is written if the file has exactly these results, or if they are fewer than WORTHWHILE.
        """
        if self._used.keys() == self._known.keys() or len(self._used) < WORTHWHILE:
            return
        write_checked_json(self._path, {"program": program_digest(), "results": self._used})


_kept: ContextVar[KeptResults | None] = ContextVar("kept", default=None)


@contextmanager
def keeping_results(path: Path) -> Iterator[None]:
    """In the `with` block, let `kept` reuse results from a file and store new ones.

    If the block ends without an error, the file is written as `KeptResults.write` does.
    """
    results = KeptResults(path)
    token = _kept.set(results)
    try:
        yield
    finally:
        _kept.reset(token)
    results.write()


def kept(purpose: str, inputs: Sequence[Input], compute: Callable[[], list[float]]) -> list[float]:
    """Return the result of `compute`, or in a `keeping_results` block the stored result of equal inputs.

    Args:
        purpose: Name of the computation.
        inputs: All that the result depends on besides the program.
        compute: Returns floats; callers must not change the returned list, which is the stored one.
    """
    results = _kept.get()
    return compute() if results is None else results.result(purpose, inputs, compute)


def _digest(purpose: str, inputs: Sequence[Input]) -> str:
    digest = hashlib.sha256(purpose.encode())
    for value in inputs:
        array = np.ascontiguousarray(value)
        digest.update(f"|{array.dtype.str}{array.shape}|".encode())
        digest.update(array.data)
    return digest.hexdigest()


@cache
def program_digest() -> str:
    """Return the SHA-256 of this package's source files and of the versions of numpy and scipy."""
    digest = hashlib.sha256(f"numpy {np.__version__}, scipy {scipy.__version__}".encode())
    for path in sorted(PACKAGE.glob("*.py")):
        digest.update(f"|{path.name}|".encode() + path.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, list[float]]:
    """Return a file's results; none if the file is missing, was changed, or has another program's digest."""
    values = read_checked_json(path)
    is_own = isinstance(values, dict) and values.get("program") == program_digest()
    return values["results"] if is_own else {}
