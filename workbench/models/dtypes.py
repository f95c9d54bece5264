"""The floating point types of models: chosen by name, and named."""

from enum import Enum
from typing import cast

import torch

HALF = (torch.bfloat16, torch.float16)
"""The 16-bit types; a model that is trained itself in one of them is held as a float32 copy."""


def chosen_dtype(choice: Enum, own: torch.dtype) -> torch.dtype:
    """The type that an option of the configuration names; auto: the model's `own`."""
    return own if choice.value == "auto" else cast(torch.dtype, getattr(torch, choice.value))


def dtype_named(name: str) -> torch.dtype:
    """The type of torch that a file names, such as bfloat16."""
    return cast(torch.dtype, getattr(torch, name))


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a type as the configuration and the files of a run have it: float32, bfloat16, ..."""
    return str(dtype).removeprefix("torch.")
