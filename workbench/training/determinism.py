"""Kernels that add up in one order each time, so that a training that was stopped ends with the same bytes.

On a CPU ours do so anyway. On a GPU the backward passes of fused attention add up in whatever order their
blocks finish, unless PyTorch is told not to.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from workbench.errors import TrainingError

FLASH = "FLASH_ATTENTION_DETERMINISTIC"
"""What transformers asks before it calls the package flash-attn, which PyTorch's own switch doesn't reach."""


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a GPU, let PyTorch take deterministic kernels only.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html; memory-efficient attention obeys only
    where other kernels are an error, not a warning.

    Raises:
        TrainingError: an operation has no such kernel.
    """
    if device.type != "cuda":
        yield
        return
    memory: Any = torch.utils.deterministic
    mode, filled = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    flash = os.environ.get(FLASH)
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # filling it costs time, and nobody reads it
    os.environ[FLASH] = "1"
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        raise TrainingError(
            f"train.deterministic: {str(error).split('. ')[0]} (train.deterministic=false does without)"
        ) from error
    finally:
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = filled
        if flash is None:
            del os.environ[FLASH]
        else:
            os.environ[FLASH] = flash
