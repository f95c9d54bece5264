"""Returns a base weight as a training held it: rounded to the model's dtype, and quantized alone."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """How a training quantizes the weight of a linear layer."""

    method: str
    """nf4, fp4 or int8."""
    double_quant: bool
    compute_dtype: torch.dtype
    """Dtype of the products of 4-bit layers, to which a dequantized weight is rounded."""


def as_trained(
    stored: Tensor, dtype: torch.dtype, quantized: Quantized | None, device: torch.device
) -> Tensor:
    """Return a weight as the training multiplied with it (rounded, quantized), in float32 on the CPU.

    Args:
        stored: Weight in the checkpoint's dtype; that of a quantized layer is (out, in).
        dtype: Dtype of the model.
        quantized: Quantization of the weight; None: it isn't quantized.
        device: Device of the training: rounding in quantization may depend on it.
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
