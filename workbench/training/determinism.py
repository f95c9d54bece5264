"""Makes GPU kernels deterministic, so that a resumed training ends with the bytes of an uninterrupted one.

On a CPU, PyTorch's kernels are deterministic anyway. On a GPU the backward passes of fused attention add up
in whatever order their blocks finish, unless PyTorch's deterministic mode is on.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from workbench.errors import TrainingError, first_line

FLASH = "FLASH_ATTENTION_DETERMINISTIC"
"""Environment variable that makes transformers call flash-attn's deterministic kernels."""


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Allow only deterministic kernels inside the `with` block, if `device` is a GPU; else do nothing.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html. Kernels without a deterministic form
    must raise an error: if PyTorch only warns, memory-efficient attention isn't deterministic.

    Raises:
        TrainingError: An operation in the block has no deterministic kernel.
    """
    if device.type != "cuda":
        yield
        return
    settings: Any = torch.utils.deterministic
    mode, fill_memory = torch.get_deterministic_debug_mode(), settings.fill_uninitialized_memory
    flash = os.environ.get(FLASH)
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # filling costs time, and nothing reads it
    os.environ[FLASH] = "1"
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        raise TrainingError(
            f"train.deterministic: {first_line(error).split('. ')[0]} (or train.deterministic=false)"
        ) from error
    finally:
        torch.set_deterministic_debug_mode(mode)
        settings.fill_uninitialized_memory = fill_memory
        if flash is None:
            del os.environ[FLASH]
        else:
            os.environ[FLASH] = flash
