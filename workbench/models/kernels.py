"""Element-wise work of the decoder layers: fewer passes over memory, and less kept for the backward pass.

Each is the plain formula of its docstring with the same roundings; what can be computed again in the backward
pass from its inputs is not kept. Most of the time saved is memory that isn't asked for: on a CPU fresh memory
costs more than the arithmetic on it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`hidden / sqrt(mean(hidden ** 2) + eps)` in float32, rounded to the dtype of `hidden`, times `weight`.

    Source: Root Mean Square Layer Normalization, arXiv:1910.07467; the place of the rounding is LLaMA's.
    """
    if torch.compiler.is_compiling():
        return F.rms_norm(hidden.float(), weight.shape, eps=eps).to(hidden.dtype) * weight
    return _RMSNorm.apply(hidden, weight, eps)  # type: ignore[no-any-return, no-untyped-call]


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        exact = hidden.float()
        length = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
        inverse = length.square_().div_(hidden.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(hidden, weight, inverse)
        normalised = exact * inverse if exact is hidden else exact.mul_(inverse).to(hidden.dtype)
        return normalised.mul_(weight) if weight.dtype == normalised.dtype else normalised * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight, inverse = ctx.saved_tensors
        normalised = hidden * inverse  # float32, as `inverse` is
        by_weight = None
        if ctx.needs_input_grad[1]:
            products = gradient * normalised.to(hidden.dtype)
            by_weight = products.flatten(0, -2).sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, by_weight, None
        slope = (gradient * weight).float()
        along = (slope * normalised).mean(-1, keepdim=True)
        slope = slope.sub_(normalised.mul_(along)).mul_(inverse)
        return slope.to(hidden.dtype), by_weight, None


def gated(activation: Any, gate: Tensor, up: Tensor) -> Tensor:
    """`activation(gate) * up`; of SiLU only the inputs are kept for the backward pass."""
    if torch.compiler.is_compiling() or not isinstance(activation, torch.nn.SiLU):
        return activation(gate) * up  # type: ignore[no-any-return]
    return _GatedSiLU.apply(gate, up)  # type: ignore[no-any-return, no-untyped-call]


class _GatedSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        by_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return by_gate, F.silu(gate).mul_(gradient)


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`states * cos + (-second half, first half) * sin`: feature j turns in a plane with feature j + D / 2.

    Source: RoFormer, arXiv:2104.09864, with the halves of GPT-NeoX instead of neighbours.

    Args:
        states: (B, S, heads, D).
        cos: (B or 1, S, 1, D), both halves alike.
        sin: (B or 1, S, 1, D), both halves alike.
    """
    cos, sin = cos.to(states.dtype), sin.to(states.dtype)
    if torch.compiler.is_compiling():
        return _turned(states, cos, sin, -1)
    return _Rotation.apply(states, cos, sin)  # type: ignore[no-any-return, no-untyped-call]


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(states, cos, sin, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(gradient, cos, sin, 1), None, None


def _turned(states: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    """`states * cos` plus, in each half, the other half times the sine, negated once by `sign`."""
    half = states.shape[-1] // 2
    first, second = states[..., :half], states[..., half:]
    out = states * cos
    out[..., :half].add_(second * sin[..., :half], alpha=sign)
    out[..., half:].add_(first * sin[..., half:], alpha=-sign)
    return out
