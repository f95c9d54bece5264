"""Chooses a model's floating point types, by autocast too, and converts dtypes to names and back."""

from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Any, cast

import torch
from torch import Tensor

from workbench.config.adapter import AdapterConfig
from workbench.config.train import Precision, TrainConfig

HALF = (torch.bfloat16, torch.float16)
"""The 16-bit types; weights in one of them are trained as a float32 copy."""


def chosen_dtype(choice: Enum, own: torch.dtype) -> torch.dtype:
    """Return the torch dtype that a configuration's choice names; for `auto`, the model's dtype `own`."""
    return own if choice.value == "auto" else cast(torch.dtype, getattr(torch, choice.value))


def autocast_dtype(
    model_dtype: torch.dtype, adapter: AdapterConfig, train: TrainConfig
) -> torch.dtype | None:
    """Return the 16-bit dtype for autocast in mixed precision; None without autocast.

    Only a 16-bit model that is trained without an adapter has mixed precision: its weights are trained in
    float32.
    """
    is_mixed = adapter.is_none and train.precision is Precision.mixed
    return model_dtype if is_mixed and model_dtype in HALF else None


def dtype_named(name: str) -> torch.dtype:
    """Return the torch dtype of a name in a file, such as bfloat16; AttributeError for an unknown name."""
    return cast(torch.dtype, getattr(torch, name))


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype's name in the configuration and in the files of a run, such as float32."""
    return str(dtype).removeprefix("torch.")


def is_autocasting(states: Tensor) -> bool:
    """Return whether autocast is enabled for the device of `states`; the meta device has none."""
    device = states.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def without_autocast(states: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which autocast is disabled for the device of `states`."""
    return torch.autocast(states.device.type, enabled=False) if is_autocasting(states) else nullcontext()


def product_dtype(states: Tensor) -> torch.dtype:
    """Return the dtype of matrix products with `states`: autocast's if it is enabled, else their own."""
    return torch.get_autocast_dtype(states.device.type) if is_autocasting(states) else states.dtype
