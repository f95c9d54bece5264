"""Plans on which GPUs a model's weights go, before they are loaded."""

import logging
import os
from pathlib import Path
from typing import Any

import torch

from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import DeviceError
from workbench.models.checkpoints.state_dict import existing_files

log = logging.getLogger("workbench")

BYTES = {QuantizationMethod.int8: 1.0, QuantizationMethod.nf4: 0.52, QuantizationMethod.fp4: 0.52}
"""Bytes of a quantized weight, scales included; other weights are left aside, so it is the least."""
ROOM = 1.15
"""Memory for weights and activations divided by that for weights, from which a model is split."""


def device_map(
    path: Path | None,
    quantization: QuantizationConfig,
    dtype: torch.dtype,
    own: torch.dtype,
    device: torch.device,
) -> dict[str, Any] | str:
    """Return from_pretrained's `device_map`: `device`, or "auto" for several GPUs if one is too small.

    A process of several (torchrun, accelerate) takes its own GPU only.

    Args:
        path: The model's folder or file; None: it has none.
        quantization: Section `quantization` of the configuration.
        dtype: Dtype of unquantized weights.
        own: Dtype of the weights in the files.
        device: Device of this process.

    Raises:
        DeviceError: The weights don't fit into the free memory of the GPUs.
    """
    whole: dict[str, Any] = {"": device}
    if device.type != "cuda" or path is None:
        return whole
    files = [path] if path.is_file() else existing_files(path)
    num_weights = sum(file.stat().st_size for file in files if file.is_file()) / own.itemsize
    num_bytes = num_weights * min(BYTES.get(quantization.method, dtype.itemsize), dtype.itemsize)
    is_alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    indices = range(torch.cuda.device_count()) if is_alone else [device.index or 0]
    free = {index: int(torch.cuda.mem_get_info(index)[0]) for index in indices}
    if num_bytes * ROOM < free[device.index or 0] or path.suffix == ".gguf":
        return whole
    gpus = ", ".join(f"GPU {index}: {num_free / 2**30:.1f} GiB free" for index, num_free in free.items())
    if num_bytes > sum(free.values()):
        raise DeviceError(
            f"model.path: {num_bytes / 2**30:.1f} GiB of weights don't fit ({gpus}; quantization=nf4, a "
            "smaller model, or model.device=cpu)"
        )
    if len(free) == 1:
        return whole
    log.info(
        "model: its layers are split over %d GPUs (%.1f GiB of weights; %s)",
        len(free),
        num_bytes / 2**30,
        gpus,
    )
    return "auto"
