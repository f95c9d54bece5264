"""Memory that libraries hold back: the C library what is freed, PyTorch the kernels of past products."""

import ctypes
import os
import sys
from functools import cache
from typing import Any

from transformers import TrainerCallback

KERNEL_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""Of PyTorch and of oneDNN below it; both hold the kernels of the last 1,024 products of different shapes."""


def keep_few_kernels() -> None:
    """Hold the kernels of 256 products on a CPU, unless the user has said how many; before the first product.

    Where each batch has a length of its own, the others are half a gigabyte that no later batch has a use
    for; a step of SmolLM2-135M makes 50 to 110. Source: oneDNN's guide, "Primitive Cache".
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, "256")


@cache
def libc_function(name: str) -> Any:
    """A function of the GNU C library; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


class GiveBack(TrainerCallback):
    """Gives the holes that a step left between living tensors back to the system.

    They don't always fit the tensors of the next step, and the process would grow from step to step.
    """

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Give back; what the next step needs again costs a few percent of its time."""
        trim = libc_function("malloc_trim")
        if trim is not None:
            trim(0)
