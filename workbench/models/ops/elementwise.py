"""Element-wise functions of decoder layers, with fewer passes over memory and fewer stored activations.

Each computes the formula of its docstring with the same roundings as plain PyTorch; activations that can be
recomputed from the inputs are not stored for the backward pass. Most of the time is saved by fewer memory
allocations: on a CPU, new memory costs more than the arithmetic on it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.activations import GELUActivation, GELUTanh, SiLUActivation

from workbench.models.ops.fused import is_plain

SILU = (torch.nn.SiLU, SiLUActivation)  # classes for "swish" and "silu" in configurations


def launches_cost(states: Tensor) -> bool:
    """Return whether fewer operations are faster on the device of `states`: on all but a CPU.

    A CPU starts an operation at once, and is faster with operations whose tensors fit into its cache.
    """
    return states.device.type != "cpu"


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


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Compute `hidden / sqrt(mean(hidden ** 2) + eps)` in float32, round it, and multiply by `weight`.

    Source: Root Mean Square Layer Normalization, arXiv:1910.07467; rounding before the weight is LLaMA's.
    """
    if is_plain():
        return F.rms_norm(hidden.float(), weight.shape, eps=eps).to(hidden.dtype) * weight
    if _has_norm_kernel(hidden):
        return _NormByKernel.apply(hidden, weight, eps)  # type: ignore[no-any-return, no-untyped-call]
    if not torch.is_grad_enabled():
        return _normalized(hidden, weight, eps)[0]
    return _RMSNorm.apply(hidden, weight, eps)  # type: ignore[no-any-return, no-untyped-call]


def _normalized(hidden: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the result of `rms_norm`, and the float32 factor (..., 1) that normalized `hidden`."""
    exact = hidden.float()
    inverse = _factor(exact, eps)
    normalized = exact * inverse if exact is hidden else exact.mul_(inverse).to(hidden.dtype)
    weighted = normalized.mul_(weight) if weight.dtype == normalized.dtype else normalized * weight
    return weighted, inverse


def _factor(exact: Tensor, eps: float) -> Tensor:
    """Return `1 / sqrt(mean(exact ** 2) + eps)` of each row (..., 1)."""
    length: Tensor = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
    return length.square_().div_(exact.shape[-1]).add_(eps).rsqrt_()


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        weighted, inverse = _normalized(hidden, weight, eps)
        ctx.save_for_backward(hidden, weight, inverse)
        return weighted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight, inverse = ctx.saved_tensors
        normalized = hidden * inverse  # float32, as `inverse` is
        weight_grad = None
        if ctx.needs_input_grad[1]:
            products = gradient * normalized.to(hidden.dtype)
            weight_grad = products.flatten(0, -2).sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, weight_grad, None
        slope = (gradient * weight).to(hidden.dtype).float()  # rounded as the values were
        return _through_factor(slope, normalized, inverse).to(hidden.dtype), weight_grad, None


def _through_factor(slope: Tensor, normalized: Tensor, inverse: Tensor) -> Tensor:
    """Return the gradient of a norm's input, given that of its normalized values; both are overwritten."""
    along = (slope * normalized).mean(-1, keepdim=True)
    return slope.sub_(normalized.mul_(along)).mul_(inverse)


def _has_norm_kernel(hidden: Tensor) -> bool:
    """Return whether PyTorch has one kernel each for a norm without weight and for its backward pass."""
    return hidden.device.type in ("cuda", "meta") and hidden.dtype != torch.float64


class _NormByKernel(torch.autograd.Function):
    """`rms_norm` in two operations each way; its kernel computes in float32 and rounds."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        normalized, inverse = torch.ops.aten._fused_rms_norm(hidden, weight.shape, None, eps)
        ctx.save_for_backward(hidden, weight, inverse)
        weighted: Tensor = normalized.mul_(weight) if weight.dtype == hidden.dtype else normalized * weight
        return weighted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight, inverse = ctx.saved_tensors
        hidden_grad = weight_grad = None
        if ctx.needs_input_grad[1]:
            products = gradient * (hidden * inverse).to(hidden.dtype)
            weight_grad = products.flatten(0, -2).sum(0).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            slope = (gradient * weight).to(hidden.dtype)
            hidden_grad = torch.ops.aten._fused_rms_norm_backward(
                slope, hidden, weight.shape, inverse, None, [True, False]
            )[0]
        return hidden_grad, weight_grad, None


def norm_in_float32(
    hidden: Tensor, weight: Tensor, eps: float, offset: float = 0.0, is_centred: bool = False
) -> Tensor:
    """Compute `hidden / sqrt(mean(hidden ** 2) + eps) * (offset + weight)` in float32, and round it.

    OLMo 2 has no offset, Gemma an offset of 1. With `is_centred`, the mean of each row is subtracted before
    (layer normalization without bias, as in Cohere's models).
    """
    if is_plain():
        exact = hidden.float()
        exact = exact - exact.mean(-1, keepdim=True) if is_centred else exact
        return (F.rms_norm(exact, weight.shape, eps=eps) * (weight.float() + offset)).to(hidden.dtype)
    return _NormInFloat32.apply(hidden, weight, eps, offset, is_centred)  # type: ignore[no-any-return, no-untyped-call]


class _NormInFloat32(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, eps: float, offset: float, is_centred: bool
    ) -> Tensor:
        exact, mean = hidden.float(), None
        if is_centred:
            mean = exact.mean(-1, keepdim=True)
            exact = exact - mean
        inverse = _factor(exact, eps)
        normalized = exact * inverse if exact is hidden else exact.mul_(inverse)
        ctx.offset = offset
        ctx.save_for_backward(hidden, weight, mean, inverse)
        return normalized.mul_(weight.float() + offset).to(hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, mean, inverse = ctx.saved_tensors
        normalized = hidden * inverse if mean is None else (hidden - mean).mul_(inverse)  # float32
        weight_grad = hidden_grad = None
        if ctx.needs_input_grad[1]:
            weight_grad = (gradient * normalized).flatten(0, -2).sum(0).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            hidden_grad = _through_factor(gradient * (weight.float() + ctx.offset), normalized, inverse)
            if mean is not None:
                hidden_grad.sub_(hidden_grad.mean(-1, keepdim=True))
            hidden_grad = hidden_grad.to(hidden.dtype)
        return hidden_grad, weight_grad, None, None, None


def gated(activation: Any, gate: Tensor, up: Tensor) -> Tensor:
    """Compute `activation(gate) * up`; with SiLU and GELU, only gate and up are stored for backward."""
    derivative = None if is_plain() or not torch.is_grad_enabled() else _derivative(activation)
    if derivative is None:
        return activation(gate) * up  # type: ignore[no-any-return]
    return _Gated.apply(activation, derivative, gate, up)  # type: ignore[no-any-return, no-untyped-call]


def _derivative(activation: Any) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return a function of (gradient, input) that computes an activation's backward pass; None if unknown."""
    if isinstance(activation, SILU):
        return torch.ops.aten.silu_backward
    form = getattr(activation, "act", None)  # of transformers' classes, which may also compute it in Python
    if isinstance(activation, GELUActivation) and form is F.gelu:
        return _gelu_backward("none")
    if isinstance(activation, GELUTanh) and isinstance(form, partial):
        return _gelu_backward("tanh")
    return _gelu_backward(activation.approximate) if isinstance(activation, torch.nn.GELU) else None


def _gelu_backward(approximate: str) -> Callable[[Tensor, Tensor], Tensor]:
    return partial(torch.ops.aten.gelu_backward, approximate=approximate)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Any, derivative: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.activation, ctx.derivative = activation, derivative
        ctx.save_for_backward(gate, up)
        return activation(gate).mul_(up)  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        gate_grad = ctx.derivative(gradient * up, gate)
        return None, None, gate_grad, ctx.activation(gate).mul_(gradient)


def rotate(states: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Apply rotary positions: `states * cos + (second half, first half) * signed_sin`, in a new tensor.

    Feature j is rotated with feature j + D / 2.
    Source: RoFormer, arXiv:2104.09864, with halves as in GPT-NeoX instead of neighbouring pairs.

    Args:
        states: (B, S, heads, D).
        cos: (B or 1, S, 1, D), both halves equal.
        signed_sin: (B or 1, S, 1, D), the negative sine in the first half, the sine in the second.
    """
    cos, signed_sin = cos.to(states.dtype), signed_sin.to(states.dtype)
    if is_plain() or not (launches_cost(states) or torch.is_grad_enabled()):
        return (states * cos).add_(_swapped(states, signed_sin))
    return _Rotation.apply(states, cos, signed_sin)  # type: ignore[no-any-return, no-untyped-call]


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, signed_sin)
        if launches_cost(states):
            return _rotated(states, cos, signed_sin, 1)
        return (states * cos).add_(_swapped(states, signed_sin))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, signed_sin = ctx.saved_tensors
        if launches_cost(gradient):
            return _rotated(gradient, cos, signed_sin, -1), None, None
        return (gradient * cos).sub_(_swapped(gradient, signed_sin)), None, None


def _rotated(states: Tensor, cos: Tensor, signed_sin: Tensor, sign: int) -> Tensor:
    """Compute `rotate`, by minus the angles if `sign` is -1, in three operations."""
    rotated = states * cos
    for half, other, sin in zip(
        rotated.chunk(2, -1), reversed(states.chunk(2, -1)), signed_sin.chunk(2, -1), strict=True
    ):
        half.addcmul_(other, sin, value=sign)
    return rotated


def _swapped(states: Tensor, signed_sin: Tensor) -> Tensor:
    """Swap the halves of the last dimension, and multiply by the signed sine."""
    first, second = states.chunk(2, -1)
    return torch.cat((second, first), -1).mul_(signed_sin)
