"""Element-wise functions of decoder layers, with fewer passes over memory and fewer stored activations.

Each computes the formula of its docstring with the same roundings as plain PyTorch; activations that can be
recomputed from the inputs are not stored for the backward pass. Most of the time is saved by fewer memory
allocations: on a CPU, new memory costs more than the arithmetic on it. With `model.compile`, each pass of a
function is one compiled kernel.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.activations import GELUActivation, GELUTanh, SiLUActivation

from workbench.models.ops.fused import compilable, is_compiled, is_plain, launches_cost
from workbench.models.ops.hooks import has_hooks

SILU = (torch.nn.SiLU, SiLUActivation)  # classes for "swish" and "silu" in configurations


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Compute `hidden / sqrt(mean(hidden ** 2) + eps)` in float32, round it, and multiply by `weight`.

    Source: Root Mean Square Layer Normalization, arXiv:1910.07467; rounding before the weight is LLaMA's.
    """
    if is_plain():
        return F.rms_norm(hidden.float(), weight.shape, eps=eps).to(hidden.dtype) * weight
    if _has_norm_kernel(hidden) and not is_compiled(hidden):
        return _NormByKernel.apply(hidden, weight, eps)  # type: ignore[no-any-return, no-untyped-call]
    if not torch.is_grad_enabled():
        return _normalized(hidden, weight, eps)[0]
    return _RMSNorm.apply(hidden, weight, eps)  # type: ignore[no-any-return, no-untyped-call]


@compilable
def _normalized(hidden: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the result of `rms_norm`, and the float32 factor (..., 1) that normalized `hidden`."""
    exact = hidden.float()
    inverse = _factor(exact, eps)
    is_exact = hidden.dtype == torch.float32  # then `exact` is `hidden`
    normalized = exact * inverse if is_exact else exact.mul_(inverse).to(hidden.dtype)
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
        return *_norm_gradients(gradient, *ctx.saved_tensors, *ctx.needs_input_grad[:2]), None


@compilable
def _norm_gradients(
    gradient: Tensor, hidden: Tensor, weight: Tensor, inverse: Tensor, for_hidden: bool, for_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of the input and of the weight of `rms_norm`, None for one that isn't needed."""
    normalized = hidden * inverse  # float32, as `inverse` is
    weight_grad = None
    if for_weight:
        products = gradient * normalized.to(hidden.dtype)
        weight_grad = products.flatten(0, -2).sum(0).to(weight.dtype)
    if not for_hidden:
        return None, weight_grad
    slope = (gradient * weight).to(hidden.dtype).float()  # rounded as the values were
    return _through_factor(slope, normalized, inverse).to(hidden.dtype), weight_grad


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
        weighted, mean, inverse = _normalized_in_float32(hidden, weight, eps, offset, is_centred)
        ctx.offset = offset
        ctx.save_for_backward(hidden, weight, mean, inverse)
        return weighted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        needed = ctx.needs_input_grad[:2]
        gradients = _norm_gradients_in_float32(gradient, *ctx.saved_tensors, ctx.offset, *needed)
        return *gradients, None, None, None


@compilable
def _normalized_in_float32(
    hidden: Tensor, weight: Tensor, eps: float, offset: float, is_centred: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the result of `norm_in_float32`, each row's mean if it is subtracted, and factor (..., 1)."""
    exact, mean = hidden.float(), None
    if is_centred:
        mean = exact.mean(-1, keepdim=True)
        exact = exact - mean
    inverse = _factor(exact, eps)
    is_input = hidden.dtype == torch.float32 and not is_centred  # then `exact` is `hidden`
    normalized = exact * inverse if is_input else exact.mul_(inverse)
    return normalized.mul_(weight.float() + offset).to(hidden.dtype), mean, inverse


@compilable
def _norm_gradients_in_float32(
    gradient: Tensor,
    hidden: Tensor,
    weight: Tensor,
    mean: Tensor | None,
    inverse: Tensor,
    offset: float,
    for_hidden: bool,
    for_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of input and weight of `norm_in_float32`, None for one that isn't needed."""
    normalized = hidden * inverse if mean is None else (hidden - mean).mul_(inverse)  # float32
    weight_grad = hidden_grad = None
    if for_weight:
        weight_grad = (gradient * normalized).flatten(0, -2).sum(0).to(weight.dtype)
    if for_hidden:
        hidden_grad = _through_factor(gradient * (weight.float() + offset), normalized, inverse)
        if mean is not None:
            hidden_grad.sub_(hidden_grad.mean(-1, keepdim=True))
        hidden_grad = hidden_grad.to(hidden.dtype)
    return hidden_grad, weight_grad


def gated(activation: Any, gate: Tensor, up: Tensor) -> Tensor:
    """Compute `activation(gate) * up`; with SiLU and GELU, only gate and up are stored for backward."""
    function = None if is_plain() or has_hooks(activation) else _function(activation)
    if function is None:
        return activation(gate) * up  # type: ignore[no-any-return]
    if not torch.is_grad_enabled():
        return _gated(gate, up, function)
    return _Gated.apply(gate, up, function)  # type: ignore[no-any-return, no-untyped-call]


def _function(activation: Any) -> str | None:
    """Return the name, among the keys of `_FUNCTIONS`, of the function that a module computes; else None."""
    if isinstance(activation, SILU):
        return "silu"
    form = getattr(activation, "act", None)  # of transformers' classes, which may also compute it in Python
    if isinstance(activation, GELUActivation) and form is F.gelu:
        return "gelu"
    if isinstance(activation, GELUTanh) and isinstance(form, partial):
        return "gelu_tanh"
    if isinstance(activation, torch.nn.GELU):
        return "gelu_tanh" if activation.approximate == "tanh" else "gelu"
    return None


_FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "silu": (F.silu, torch.ops.aten.silu_backward),
    "gelu": (F.gelu, torch.ops.aten.gelu_backward),
    "gelu_tanh": (
        partial(F.gelu, approximate="tanh"),
        partial(torch.ops.aten.gelu_backward, approximate="tanh"),
    ),
}
"""Name -> function, and the function of (gradient, input) that computes its backward pass."""


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, function: str) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(gate, up)
        return _gated(gate, up, function)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return *_gated_gradients(gradient, *ctx.saved_tensors, ctx.function), None


@compilable
def _gated(gate: Tensor, up: Tensor, function: str) -> Tensor:
    return _FUNCTIONS[function][0](gate).mul_(up)


@compilable
def _gated_gradients(gradient: Tensor, gate: Tensor, up: Tensor, function: str) -> tuple[Tensor, Tensor]:
    activation, derivative = _FUNCTIONS[function]
    return derivative(gradient * up, gate), activation(gate).mul_(gradient)


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
    if is_plain():
        return (states * cos).add_(_swapped(states, signed_sin))
    if not torch.is_grad_enabled():
        return _rotated(states, cos, signed_sin, 1)
    return _Rotation.apply(states, cos, signed_sin)  # type: ignore[no-any-return, no-untyped-call]


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, signed_sin)
        return _rotated(states, cos, signed_sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _rotated(gradient, *ctx.saved_tensors, -1), None, None


@compilable
def _rotated(states: Tensor, cos: Tensor, signed_sin: Tensor, sign: int) -> Tensor:
    """Compute `rotate`, by minus the angles if `sign` is -1."""
    rotated = states * cos
    if not launches_cost(states):
        return rotated.add_(_swapped(states, signed_sin), alpha=sign)
    for half, other, sin in zip(
        rotated.chunk(2, -1), reversed(states.chunk(2, -1)), signed_sin.chunk(2, -1), strict=True
    ):
        half.addcmul_(other, sin, value=sign)
    return rotated


def _swapped(states: Tensor, signed_sin: Tensor) -> Tensor:
    """Swap the halves of the last dimension, and multiply by the signed sine."""
    first, second = states.chunk(2, -1)
    return torch.cat((second, first), -1).mul_(signed_sin)
