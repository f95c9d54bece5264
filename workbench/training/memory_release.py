"""Returns memory to the system that the C library and PyTorch would keep for reuse."""

import os
from typing import Any

from transformers import TrainerCallback

from workbench.machine import release_freed

KERNEL_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""Environment variables that limit the kernel caches of PyTorch and oneDNN.

The default is 1,024 shapes each.
"""


def keep_few_kernels() -> None:
    """Limit the CPU kernel caches of this process to 256 shapes, unless the user has set a limit.

    This sets environment variables, and must be called before the first matrix product. If each batch has a
    different length, the kernels of earlier batches take half a gigabyte, and no later batch uses them. A
    step of SmolLM2-135M uses 50 to 110 kernels. Source: oneDNN's guide, "Primitive Cache".
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, "256")


class ReleaseMemory(TrainerCallback):
    """Returns freed memory to the operating system before the first step and after each step.

    Loading leaves gaps of hundreds of megabytes, half of a small model's size. And the process would grow
    from step to step, because the gaps between live tensors don't always fit the tensors of the next step.
    """

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Give back what loading the model has freed."""
        release_freed()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Give freed memory back to the operating system.

        To allocate it again costs the next step a few percent of its time.
        """
        release_freed()
