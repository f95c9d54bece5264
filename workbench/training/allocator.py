"""Freed memory that the C library holds back, for the system."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from transformers import TrainerCallback

MMAP_THRESHOLD = -3  # the C library's M_MMAP_THRESHOLD
OWN_MAPPING, USUAL = 1 << 20, 1 << 25
"""Bytes from which a block is mapped for itself: to save memory, and as the C library ends up with."""


@cache
def libc_function(name: str) -> Any:
    """A function of the GNU C library; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


@contextmanager
def tensors_apart(wanted: bool) -> Iterator[None]:
    """Map memory for each larger tensor alone, which is gone when the tensor is.

    On the heap a freed tensor leaves a hole that the next one of the same size often doesn't fit, because of
    its alignment (glibc before 2.38). With checkpointing on an 8-bit base, whose weights are made whole again
    layer by layer, the holes are as large as all that lives. Mapping takes up to a third of the time.
    """
    mallopt = libc_function("mallopt") if wanted else None
    if mallopt is None:
        yield
        return
    libc_function("malloc_trim")(0)  # what the heap has already would be used first
    mallopt(MMAP_THRESHOLD, OWN_MAPPING)
    try:
        yield
    finally:
        mallopt(MMAP_THRESHOLD, USUAL)


class GiveBack(TrainerCallback):
    """Gives the holes that a step left between living tensors back to the system.

    They don't always fit the tensors of the next step, and the process would grow from step to step.
    """

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Give back; what the next step needs again costs a few percent of its time."""
        trim = libc_function("malloc_trim")
        if trim is not None:
            trim(0)
