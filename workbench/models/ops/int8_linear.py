"""Products with weights of 8 bits on a CPU: what bitsandbytes computes in training, keeping no input.

Its own function (bitsandbytes 0.50, autograd/_functions.py, MatMul8bitFp) holds its input where checkpointing
doesn't find it, so that every layer keeps what checkpointing should have let go.
"""

import sys
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from workbench.models.ops.hooks import has_hooks


def is_eight_bit(layer: nn.Module) -> bool:
    """Whether `layer` holds a weight of 8 bits on the CPU and no hook but the one set here."""
    module = sys.modules.get("bitsandbytes.nn.modules")  # importing it takes seconds
    if module is None or type(layer) is not module.Linear8bitLt:
        return False
    on_cpu = layer.weight.dtype == torch.int8 and layer.weight.device.type == "cpu"
    set_here = multiply_in_floats in layer._forward_pre_hooks.values()
    return on_cpu and set_here and not has_hooks(layer, but=multiply_in_floats)


def multiply_in_floats(module: nn.Module, _: tuple[Any, ...]) -> None:
    """A hook that keeps a Linear8bitLt in train mode, whatever `model.eval()` said since the last call.

    In eval mode it rounds its input to 8 bits a row and picks outlier columns over the whole batch, so an
    item's log-probability depends on its neighbours (up to 3 nats). In train mode on the CPU it multiplies
    the input as it is with the dequantized weight.
    """
    module.training = True
    weight: Any = module.weight
    if weight.CB is not None and weight.SCB is None:
        # In each DoRA product peft 0.21 replaces the parameter without its scales (dequantize_module_weight).
        weight.SCB = cast(Any, module).state.SCB


def multiply(layer: nn.Module, hidden: Tensor) -> Tensor:
    """What `layer`, for which `is_eight_bit` holds, gives for `hidden` (..., I)."""
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    bias = bias if bias is None else bias.to(hidden.dtype)
    return _Product.apply(hidden, layer.weight.data, scales(layer), bias)  # type: ignore[no-any-return, no-untyped-call]


def scales(layer: nn.Module) -> Tensor:
    """Of each output (O,), the weight that 127 stands for."""
    weight: Any = layer.weight  # bitsandbytes' first product moves them
    return weight.SCB if weight.SCB is not None else cast(Any, layer).state.SCB  # type: ignore[no-any-return]


def whole(values: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight (O, I) of `values` in 8 bits, rounded as bitsandbytes does in its products on a CPU."""
    return values.to(dtype).mul_(scales[:, None].mul(1 / 127))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, values: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, scales)
        return F.linear(hidden, whole(values, scales, hidden.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        by_bias = gradient.flatten(0, -2).sum(0) if ctx.needs_input_grad[3] else None
        values, scales = ctx.saved_tensors
        return gradient @ whole(values, scales, gradient.dtype), None, None, by_bias
