"""The floating point types of models: chosen by name, and named."""

from enum import Enum
from typing import cast

import torch

from workbench.config.adapter import AdapterConfig
from workbench.config.train import Precision, TrainConfig

HALF = (torch.bfloat16, torch.float16)
"""The 16-bit types; a model that is trained itself in one of them is held as a float32 copy."""


def chosen_dtype(choice: Enum, own: torch.dtype) -> torch.dtype:
    """Return the dtype that an option names; `auto`: the dtype `own` of the model."""
    return own if choice.value == "auto" else cast(torch.dtype, getattr(torch, choice.value))


def autocast_dtype(
    model_dtype: torch.dtype, adapter: AdapterConfig, train: TrainConfig
) -> torch.dtype | None:
    """Return the 16-bit dtype of mixed precision, when float32 weights are trained; None: no autocast."""
    is_mixed = adapter.is_none and train.precision is Precision.mixed
    return model_dtype if is_mixed and model_dtype in HALF else None


def dtype_named(name: str) -> torch.dtype:
    """Return torch's dtype for a name in a file, such as bfloat16."""
    return cast(torch.dtype, getattr(torch, name))


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype in the configuration and in the files of a run: float32, bfloat16, ..."""
    return str(dtype).removeprefix("torch.")
