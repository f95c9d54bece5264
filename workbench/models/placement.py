"""How a model is held: its device, its types, its attention kernel; decided here and nowhere else."""

import logging
import os
from typing import Any, cast

import torch
from transformers.modeling_utils import AttentionInterface

from workbench.config.model import Architecture, Attention, Device, Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.errors import DeviceError
from workbench.models.quantization import bitsandbytes_config

logger = logging.getLogger("workbench")


def torch_device(device: Device) -> torch.device:
    """The device itself; of several GPUs this process's own (LOCAL_RANK, as torchrun and accelerate set it).

    Raises:
        DeviceError: CUDA was asked for and there is none.
    """
    if device is Device.cuda and not torch.cuda.is_available():
        raise DeviceError("model.device: 'cuda' was asked for, but there is no CUDA device (auto or cpu)")
    if device is Device.cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def torch_dtype(dtype: Dtype, own: torch.dtype) -> torch.dtype:
    """The type of unquantized weights and of activations; auto: the model's `own`."""
    return own if dtype is Dtype.auto else cast(torch.dtype, getattr(torch, dtype.value))


def attention_name(attention: Attention) -> str | None:
    """The kernel in the words of transformers; None: its own choice."""
    if attention is Attention.auto:
        return None
    known = AttentionInterface()  # type: ignore[no-untyped-call]
    if attention is Attention.xformers and attention.value not in known:
        logger.info("model.attention: xformers can't run here, sdpa computes the same")
        return "sdpa"
    return str(attention.value)


def loading_options(model: ModelConfig, quantization: QuantizationConfig, own: torch.dtype) -> dict[str, Any]:
    """Arguments of from_pretrained that hold the model as its section says; `own`: the checkpoint's type."""
    dtype = torch_dtype(model.dtype, own)
    native = model.architecture is Architecture.native
    return {
        "dtype": dtype,
        "device_map": {"": torch_device(model.device)},
        "quantization_config": bitsandbytes_config(quantization, dtype, native),
        "attn_implementation": attention_name(model.attention),
    }
