"""Chooses a model's device, dtype and attention kernel, which no other file decides."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.utils.import_utils import is_flash_attn_2_available

from workbench.config.model import Attention, Device, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.distributed import rank_and_world_size
from workbench.errors import DeviceError
from workbench.models.architecture import is_native
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.placement import device_map
from workbench.models.dtypes import HALF, chosen_dtype, dtype_name
from workbench.models.ops.cpu_attention import multiplies_bfloat16
from workbench.models.ops.xformers_kernels import missing_reason
from workbench.models.quantization import bitsandbytes_config

logger = logging.getLogger("workbench")


EMULATED = (
    "model.dtype: bfloat16 is emulated on {}, which is several times slower than float16; "
    "model.dtype=float16 is trained with loss scaling there"
)
"""What is said of bfloat16 on a GPU, which is filled in."""
EMULATED_ON_CPU = (
    "model.dtype: this processor has no bfloat16 instructions, and products in bfloat16 take ten times as "
    "long as in float32 or more; model.dtype=float32 is faster, with twice the memory"
)
"""What is said of bfloat16 on such a CPU."""


SPLIT_MODULES = {"model.layers.*": "free_full_weight"}
"""FSDP2's plan for Open-Llama: a layer's weights are freed after it; embedding, last norm and head stay."""

_is_splitting: ContextVar[bool] = ContextVar("is_splitting", default=False)


@contextmanager
def split_weights(is_split: bool) -> Iterator[None]:
    """Within the block, split the weights of a loaded Open-Llama over all processes (`train.fsdp`).

    A model with such weights must be called by all processes together.
    """
    token = _is_splitting.set(is_split)
    try:
        yield
    finally:
        _is_splitting.reset(token)


def torch_device(device: Device) -> torch.device:
    """Return the torch device; with several GPUs, the one of this process's LOCAL_RANK.

    Sets CUBLAS_WORKSPACE_CONFIG unless it is set, so that cuBLAS multiplies deterministically, which works
    only before the first product.

    Raises:
        DeviceError: CUDA is requested, but there is no CUDA device.
    """
    if device is Device.cuda and not torch.cuda.is_available():
        raise DeviceError("model.device: 'cuda' is not possible, there is no CUDA device (auto or cpu)")
    if device is Device.cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def emulated_dtype(dtype: torch.dtype, device: torch.device) -> str:
    """Return a sentence about a device that computes bfloat16 by emulation; empty: `dtype` is native there.

    Tensor cores take bfloat16 from compute capability 8.0 on, processors with AVX-512 BF16 or AMX.
    """
    if dtype is not torch.bfloat16:
        return ""
    if device.type == "cpu":
        return "" if multiplies_bfloat16() else EMULATED_ON_CPU
    if device.type != "cuda":
        return ""
    major, minor = torch.cuda.get_device_capability(device)
    if major >= 8:
        return ""
    return EMULATED.format(f"{torch.cuda.get_device_name(device)} (compute capability {major}.{minor})")


def attention_name(attention: Attention, dtype: torch.dtype, device: torch.device) -> str | None:
    """Return transformers' name of the attention kernel for `model.attention`; None: the model's default.

    If the configured kernel can't run with this dtype and device, the log says why, and the name is `sdpa`.
    """
    if attention is Attention.auto:
        return None
    reason = None
    if attention is Attention.xformers:
        reason = missing_reason(device)
    if attention is Attention.flash_attention_2:
        reason = _why_not_flash(dtype, device)
    if reason is None:
        return str(attention.value)
    logger.info("model.attention: %s; sdpa is used, which computes the same", reason)
    return "sdpa"


def _why_not_flash(dtype: torch.dtype, device: torch.device) -> str | None:
    """Return why flash attention can't compute the model; None if it can."""
    if device.type != "cuda":
        return f"flash_attention_2 has no kernel for {device.type}"
    if dtype not in HALF:
        return f"flash_attention_2 has no kernel for {dtype_name(dtype)}"
    return None if is_flash_attn_2_available() else "flash_attention_2 needs the package flash-attn"


def loading_options(model: ModelConfig, quantization: QuantizationConfig, own: torch.dtype) -> dict[str, Any]:
    """Return the keyword arguments of from_pretrained for the sections `model` and `quantization`.

    The log says if the device emulates the dtype.

    `own` is the checkpoint's dtype, for `model.dtype=auto`.

    Raises:
        DeviceError: `model.device` is CUDA, which this machine lacks, or whose memory is too small.
    """
    dtype, device = chosen_dtype(model.dtype, own), torch_device(model.device)
    if slow := emulated_dtype(dtype, device):
        logger.warning("%s", slow)
    path = locate(model.path, model.revision) if model.path else None
    if _is_splitting.get():
        shares = DistributedConfig(fsdp_size=rank_and_world_size()[1], fsdp_plan=SPLIT_MODULES)
        placement: dict[str, Any] = {"distributed_config": shares}
    else:
        placement = {"device_map": device_map(path, quantization, dtype, own, device)}
    return {
        "dtype": dtype,
        **placement,
        "quantization_config": bitsandbytes_config(quantization, dtype, is_native(model)),
        "attn_implementation": attention_name(model.attention, dtype, device),
    }
