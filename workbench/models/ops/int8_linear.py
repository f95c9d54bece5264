"""Multiplies with 8-bit weights on a CPU as bitsandbytes does in training, without storing the input.

bitsandbytes' function (version 0.50, autograd/_functions.py, MatMul8bitFp) stores its input as an attribute,
so that gradient checkpointing can't free it.
"""

import sys
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from workbench.models.ops.hooks import has_hooks


def is_eight_bit(layer: nn.Module) -> bool:
    """Return whether `layer` is an int8 Linear8bitLt on the CPU, with `multiply_in_floats` as only hook."""
    module = sys.modules.get("bitsandbytes.nn.modules")  # importing it takes seconds
    if module is None or type(layer) is not module.Linear8bitLt:
        return False
    on_cpu = layer.weight.dtype == torch.int8 and layer.weight.device.type == "cpu"
    has_hook = multiply_in_floats in layer._forward_pre_hooks.values()
    return on_cpu and has_hook and not has_hooks(layer, but=multiply_in_floats)


def multiply_in_floats(module: nn.Module, _: tuple[Any, ...]) -> None:
    """Forward pre-hook: switch a Linear8bitLt to train mode before each call, even after `model.eval()`.

    In eval mode the layer rounds its input to 8 bits per row and selects outlier columns over the entire
    batch, so an item's log-probability depends on the other items (up to 3 nats). In train mode on the CPU it
    multiplies the unrounded input with the dequantized weight.
    """
    module.training = True
    weight: Any = module.weight
    if weight.CB is not None and weight.SCB is None:
        # In each DoRA product, peft 0.21 replaces the parameter, without scales (dequantize_module_weight).
        weight.SCB = cast(Any, module).state.SCB


def multiply(layer: nn.Module, hidden: Tensor) -> Tensor:
    """Multiply `hidden` (..., inputs) with the dequantized weight of a layer, as in train mode.

    `is_eight_bit` must be true for the layer.
    """
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    bias = bias if bias is None else bias.to(hidden.dtype)
    return _Product.apply(hidden, layer.weight.data, scales(layer), bias)  # type: ignore[no-any-return, no-untyped-call]


def scales(layer: nn.Module) -> Tensor:
    """Return the largest absolute weight of each output of a Linear8bitLt: (O,), the layer's own tensor.

    bitsandbytes calls these scales SCB; the weight is stored as 127.
    """
    weight: Any = layer.weight  # the first product of bitsandbytes moves the scales to `state`
    return weight.SCB if weight.SCB is not None else cast(Any, layer).state.SCB  # type: ignore[no-any-return]


def dequantized(values: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Dequantize int8 `values` (O, I) with `scales` (O,) to weights in `dtype`, rounded as bitsandbytes does.

    That is its rounding in products on the CPU.
    """
    return values.to(dtype).mul_(scales[:, None].mul(1 / 127))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, values: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, scales)
        return F.linear(hidden, dequantized(values, scales, hidden.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        by_bias = gradient.flatten(0, -2).sum(0) if ctx.needs_input_grad[3] else None
        values, scales = ctx.saved_tensors
        return gradient @ dequantized(values, scales, gradient.dtype), None, None, by_bias
