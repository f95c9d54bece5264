"""Gives memory back to the system that the C library and PyTorch would keep for reuse."""

import os
from typing import Any

from transformers import TrainerCallback

from workbench.machine import release_freed

KERNEL_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""Environment variables that limit the kernel caches of PyTorch and oneDNN, by default 1,024 shapes each."""


def keep_few_kernels() -> None:
    """Limit the CPU kernel caches to 256 shapes, unless the user has set a limit; call before any product.

    Where each batch has a different length, older kernels are half a gigabyte that no later batch uses; a
    step of SmolLM2-135M uses 50 to 110. Source: oneDNN's guide, "Primitive Cache".
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, "256")


class ReleaseMemory(TrainerCallback):
    """Gives freed memory between live tensors back to the system after each step.

    The gaps don't always fit the tensors of the next step, and the process would grow from step to step.
    """

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Release the memory; allocating it again costs the next step a few percent of its time."""
        release_freed()
