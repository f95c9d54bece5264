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
from transformers.activations import SiLUActivation

from workbench.models.ops.fused import is_plain

SILU = (torch.nn.SiLU, SiLUActivation)  # what configurations call "swish" and "silu"


def product_dtype(states: Tensor) -> torch.dtype:
    """The type that matrix products of `states` are computed in: autocast's if it is on, else their own."""
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`hidden / sqrt(mean(hidden ** 2) + eps)` in float32, rounded to the dtype of `hidden`, times `weight`.

    Source: Root Mean Square Layer Normalization, arXiv:1910.07467; the place of the rounding is LLaMA's.
    """
    if is_plain():
        return F.rms_norm(hidden.float(), weight.shape, eps=eps).to(hidden.dtype) * weight
    if not torch.is_grad_enabled():
        return _normalised(hidden, weight, eps)[0]
    return _RMSNorm.apply(hidden, weight, eps)  # type: ignore[no-any-return, no-untyped-call]


def _normalised(hidden: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The result, and the factor (..., 1) that was applied."""
    exact = hidden.float()
    length = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
    inverse = length.square_().div_(hidden.shape[-1]).add_(eps).rsqrt_()
    normalised = exact * inverse if exact is hidden else exact.mul_(inverse).to(hidden.dtype)
    weighted = normalised.mul_(weight) if weight.dtype == normalised.dtype else normalised * weight
    return weighted, inverse


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        weighted, inverse = _normalised(hidden, weight, eps)
        ctx.save_for_backward(hidden, weight, inverse)
        return weighted

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
    plain = is_plain() or not isinstance(activation, SILU)
    if plain or not torch.is_grad_enabled():
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


def rotate(states: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """`states * cos + (second half, first half) * signed_sin`: feature j turns with feature j + D / 2.

    Source: RoFormer, arXiv:2104.09864, with the halves of GPT-NeoX instead of neighbours.

    Args:
        states: (B, S, heads, D).
        cos: (B or 1, S, 1, D), both halves alike.
        signed_sin: (B or 1, S, 1, D), the first half minus the sine, the second half plus the sine.
    """
    cos, signed_sin = cos.to(states.dtype), signed_sin.to(states.dtype)
    if is_plain() or not torch.is_grad_enabled():
        return (states * cos).add_(_swapped(states, signed_sin))
    return _Rotation.apply(states, cos, signed_sin)  # type: ignore[no-any-return, no-untyped-call]


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, signed_sin)
        return (states * cos).add_(_swapped(states, signed_sin))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, signed_sin = ctx.saved_tensors
        return (gradient * cos).sub_(_swapped(gradient, signed_sin)), None, None


def _swapped(states: Tensor, signed_sin: Tensor) -> Tensor:
    """The halves exchanged, times the sine."""
    first, second = states.chunk(2, -1)
    return torch.cat((second, first), -1).mul_(signed_sin)
