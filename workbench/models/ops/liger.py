"""Computes the training's loss by a kernel of the package liger-kernel (`model.loss=liger`)."""

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from workbench.config.names import IGNORED
from workbench.errors import ConfigError, DeviceError
from workbench.models.dtypes import product_dtype, without_autocast

_is_enabled = False


def enable_liger(is_enabled: bool) -> None:
    """Enable or disable the kernel for all models of the process, until the next call."""
    global _is_enabled
    _is_enabled = is_enabled


def is_enabled() -> bool:
    """Return whether the kernel is enabled."""
    return _is_enabled


def check_liger(device: torch.device) -> None:
    """Check that the kernel can run on a device. Triton's interpreter, for tests, runs it on a CPU.

    Raises:
        ConfigError: The package is missing.
        DeviceError: The device is not a GPU.
    """
    if find_spec("liger_kernel") is None:
        raise ConfigError(
            "model.loss: liger needs the package liger-kernel (pip install 'open-llama-workbench[liger]', or "
            "model.loss=chunked)"
        )
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise DeviceError(f"model.loss: liger has no kernel for {device.type} (model.loss=chunked)")


def summed_loss(rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Return the summed loss of rows (T, H) under the weight (V, H) of a head, in nats and float32.

    Products have autocast's dtype if it is enabled; the weight's gradient is summed in float32. Source: Liger
    Kernel, arXiv:2410.10989, section 3.2.

    Args:
        rows: (T, H), T at least 1.
        weight: (V, H).
        labels: (T,) token ids, none of them -100.
    """
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    dtype = product_dtype(rows)
    with without_autocast(rows):
        total: Tensor = liger_fused_linear_cross_entropy(
            rows.to(dtype),
            weight.to(dtype),
            labels,
            ignore_index=IGNORED,
            reduction="sum",
            accum_dtype=torch.float32,
        )
    return total.float()
