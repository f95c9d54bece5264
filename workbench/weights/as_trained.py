"""Computes the values that a base weight has in training: rounded to the model's dtype, then quantized."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """How a training quantizes the weight of a linear layer with bitsandbytes."""

    method: str
    """nf4, fp4 or int8."""
    double_quant: bool
    """Whether the scales of 4-bit blocks are quantized, too; int8 has no such choice."""
    compute_dtype: torch.dtype
    """Dtype of the products of 4-bit layers, to which a dequantized weight is rounded; int8 ignores it."""


def as_trained(
    stored: Tensor, dtype: torch.dtype, quantized: Quantized | None, device: torch.device
) -> Tensor:
    """Round a weight as the training does, quantize and dequantize it; return it in float32 on the CPU.

    The result is `stored` itself if nothing has to be converted.

    Args:
        stored: Weight in the checkpoint's dtype; that of a quantized layer is (out, in).
        dtype: Dtype of the model in training, to which the weight is rounded first.
        quantized: Quantization of the weight; None: it is only rounded.
        device: Device of the training, on which all is computed: rounding in quantization may depend on it.
    """
    weight = stored.to(device, dtype)
    if quantized is not None:
        weight = _quantized_and_back(weight, quantized)
    return weight.to("cpu", torch.float32)


def _quantized_and_back(weight: Tensor, quantized: Quantized) -> Tensor:
    """Quantize and dequantize a weight with bitsandbytes' functions, as its layers do."""
    # bitsandbytes is imported only where a base is quantized: it takes memory
    from bitsandbytes.functional import int8_vectorwise_quant

    from workbench.weights.four_bits import dequantize_4bit, quantize_4bit

    if quantized.method == "int8":
        eight_bits: tuple[Tensor, Tensor, Any] = int8_vectorwise_quant(weight.to(torch.float16))
        values, scales, _ = eight_bits
        if weight.device.type == "cpu":
            return values.to(weight.dtype).mul_(scales[:, None].mul(1 / 127))
        return values.float() * (scales[:, None] / 127)
    packed, state = quantize_4bit(
        weight, compress_statistics=quantized.double_quant, quant_type=quantized.method
    )
    state.dtype = quantized.compute_dtype
    result: Any = dequantize_4bit(packed, state)
    return torch.as_tensor(result)
