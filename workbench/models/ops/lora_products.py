"""Computes linear layers with LoRA adapters in few operations, for devices on which each costs a launch.

The products of a layer and of its adapter, forward and backward, are all that is computed, apart from one
conversion of the adapters' matrices and one of their gradients. `lora_projection` has the variant for a CPU,
where caches matter more than the number of operations.

Shapes: T tokens (all leading dimensions), I inputs, O outputs, R sum of all adapters' ranks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from workbench.models.ops.fused import launches_cost


def takes(hidden: Tensor, dtype: torch.dtype) -> bool:
    """Return whether `adapted` is the faster variant for an input whose adapters multiply in `dtype`."""
    return launches_cost(hidden) and hidden.dtype == dtype


def adapted(
    hidden: Tensor,
    bases: Sequence[Tensor],
    are_weights: Sequence[bool],
    downs: Sequence[Tensor],
    ups: Sequence[Tensor],
    scalings: Sequence[float],
) -> tuple[Tensor, ...]:
    """Return for each layer `base(hidden) + scaling * up(down(hidden))`, (..., O).

    Args:
        hidden: (..., I).
        bases: For each layer its weight (O, I), which gets no gradient; or its output (..., O), which is
            overwritten unless it is a view.
        are_weights: For each layer whether `bases` has its weight.
        downs: LoRA's first matrices, (rank, I).
        ups: LoRA's second matrices, (O, rank).
        scalings: Factors on the updates.
    """
    return _Products.apply(hidden, tuple(are_weights), tuple(scalings), *bases, *downs, *ups)  # type: ignore[no-any-return, no-untyped-call]


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        are_weights: tuple[bool, ...],
        scalings: tuple[float, ...],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        count = len(scalings)
        bases, downs, ups = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        ranks = [len(down) for down in downs]
        rows = as_rows(hidden)
        down = rows.new_empty(sum(ranks), rows.shape[1])  # (R, I)
        copies = [torch.empty_like(up, dtype=hidden.dtype) for up in ups]
        torch._foreach_copy_([*torch.split(down, ranks), *copies], [*downs, *ups])
        inner = rows @ down.t()  # (T, R)
        outputs, overwritten = [], []
        for base, is_weight, up, share, scaling in zip(
            bases, are_weights, copies, torch.split(inner, ranks, 1), scalings, strict=True
        ):
            if is_weight:
                output = (rows @ base.t()).view(*hidden.shape[:-1], len(base))
            elif base._is_view():
                output = base.clone()
            else:
                output = base
                overwritten.append(base)
            output.view(len(rows), -1).addmm_(share, up.t(), alpha=scaling)
            outputs.append(output)
        ctx.mark_dirty(*overwritten)
        ctx.are_weights, ctx.scalings, ctx.ranks = are_weights, scalings, ranks
        ctx.dtypes = [matrix.dtype for matrix in (*downs, *ups)]
        weights = [base for base, is_weight in zip(bases, are_weights, strict=True) if is_weight]
        ctx.save_for_backward(hidden, inner, down, *copies, *weights)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.scalings)
        hidden, inner, down, *others = ctx.saved_tensors
        ups, weights = others[:count], iter(others[count:])
        rows, slopes = as_rows(hidden), inner.new_empty(inner.shape)
        flat = [as_rows(gradient) for gradient in gradients]  # (T, O)
        up_grads = [torch.empty_like(up) for up in ups]
        for gradient, up, up_grad, share, slope, scaling in zip(
            flat,
            ups,
            up_grads,
            torch.split(inner, ctx.ranks, 1),
            torch.split(slopes, ctx.ranks, 1),
            ctx.scalings,
            strict=True,
        ):
            up_grad.addmm_(gradient.t(), share, beta=0, alpha=scaling)
            torch.addmm(slope, gradient, up, beta=0, alpha=scaling, out=slope)
        down_grad = slopes.t() @ rows  # (R, I)
        matrix_grads = [*torch.split(down_grad, ctx.ranks), *up_grads]
        hidden_grad = slopes @ down if ctx.needs_input_grad[0] else None
        base_grads: list[Tensor | None] = []
        for gradient, whole, is_weight in zip(flat, gradients, ctx.are_weights, strict=True):
            base_grads.append(None if is_weight else whole)
            weight = next(weights) if is_weight else None
            if hidden_grad is not None and weight is not None:
                hidden_grad.addmm_(gradient, weight)
        if hidden_grad is not None:
            hidden_grad = hidden_grad.view(hidden.shape)
        return hidden_grad, None, None, *base_grads, *_converted(matrix_grads, ctx.dtypes)


def _converted(tensors: list[Tensor], dtypes: list[torch.dtype]) -> list[Tensor]:
    """Return the tensors in these dtypes, by one operation if any must be converted."""
    if all(tensor.dtype == dtype for tensor, dtype in zip(tensors, dtypes, strict=True)):
        return tensors
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
    torch._foreach_copy_(copies, tensors)
    return copies


def as_rows(states: Tensor) -> Tensor:
    """Return states (..., N) as a matrix (T, N)."""
    return states.reshape(-1, states.shape[-1])
