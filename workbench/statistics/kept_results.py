"""Keeps the results of slow computations in a file, by the content of everything that they depend on.

A result is known by the SHA-256 of its inputs and of the program: the source files of this package and the
versions of numpy and scipy. So a kept result is the one that would be computed, to the last bit.
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
"""Results from which on a file is written; fewer are computed as fast."""

PACKAGE = Path(__file__).parent

Input = NDArray[Any] | float


class KeptResults:
    """Results by the digest of their inputs. What isn't used during a block is dropped at its end."""

    def __init__(self, path: Path) -> None:
        """Read the results of a file; a damaged one, or one of another program, has none."""
        self._path = path
        self._known = _read(path)
        self._used: dict[str, list[float]] = {}

    def result(
        self, purpose: str, inputs: Sequence[Input], compute: Callable[[], list[float]]
    ) -> list[float]:
        """Return the kept result of these inputs, or compute it."""
        key = _digest(purpose, inputs)
        if key not in self._used:
            self._used[key] = self._known[key] if key in self._known else compute()
        return self._used[key]

    def write(self) -> None:
        """Write the results that were used, if they are others than those that were read, and worthwhile."""
        if self._used.keys() == self._known.keys() or len(self._used) < WORTHWHILE:
            return
        write_checked_json(self._path, {"program": program_digest(), "results": self._used})


_kept: ContextVar[KeptResults | None] = ContextVar("kept", default=None)


@contextmanager
def keeping_results(path: Path) -> Iterator[None]:
    """Keep the results of `kept` in a file: read it before the block, write it after one without an error."""
    results = KeptResults(path)
    token = _kept.set(results)
    try:
        yield
    finally:
        _kept.reset(token)
    results.write()


def kept(purpose: str, inputs: Sequence[Input], compute: Callable[[], list[float]]) -> list[float]:
    """Return the result of `compute`: kept from the same inputs inside of `keeping_results`.

    Args:
        purpose: Name of the computation.
        inputs: All that the result depends on besides the program.
        compute: Returns floats, which the caller must not change.
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
    """Return the results of a file; none if there is none, or it isn't as this program wrote it."""
    values = read_checked_json(path)
    is_own = isinstance(values, dict) and values.get("program") == program_digest()
    return values["results"] if is_own else {}
