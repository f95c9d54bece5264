"""Freed memory that the C library holds back, for the system."""

import ctypes
import sys
from functools import cache
from typing import Any

from transformers import TrainerCallback


@cache
def malloc_trim() -> Any:
    """The function of the GNU C library; None elsewhere."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


class GiveBack(TrainerCallback):
    """After each step gives the holes between living tensors back to the system.

    Tensors of a layer are below the size from which the C library maps memory of their own. They lie on its
    heap, where the holes of one step don't always fit the tensors of the next, and the process grows.
    """

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Give back; what the next step needs again costs a few percent of its time."""
        trim = malloc_trim()
        if trim is not None:
            trim(0)
