"""Applies several linear layers to one input; their LoRA adapters share one product.

Each peft layer stores its own float32 copy of a half-precision input for the backward pass; for the seven
projections of a decoder layer, these copies are most of the memory of a training step. Here the adapters of
one input are one product, and only the input itself is stored. The modules are unchanged: peft saves, merges
and disables them as usual. Layers with anything else (another method than plain LoRA, dropout, hooks, several
adapters) are called as they are.

Shapes: T tokens (all leading dimensions), I inputs, O outputs, R sum of all adapters' ranks.
"""

import sys
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from workbench.models.dtypes import is_autocasting, product_dtype
from workbench.models.ops import lora_products
from workbench.models.ops.fused import is_plain
from workbench.models.ops.hooks import has_hooks
from workbench.models.ops.int8_linear import is_eight_bit
from workbench.models.ops.lora_products import as_rows
from workbench.models.ops.prepacked_linear import multiply

CHUNK = 256  # tokens, whose copies in another dtype fit into the CPU's cache


@dataclass(frozen=True)
class Adapter:
    """LoRA adapter of one layer: `base(x) + scaling * up(down(x))`. Source: arXiv:2106.09685, section 4.1."""

    base: nn.Module
    """Layer that the adapter is on, possibly quantized."""
    down: Tensor
    """(rank, I)."""
    up: Tensor
    """(O, rank)."""
    scaling: float


def project(hidden: Tensor, *layers: nn.Module) -> list[Tensor]:
    """Return the outputs (..., O) of `layers`, in order, for the same input `hidden` (..., I).

    LoRA adapters on the layers share one product.
    """
    if is_plain():
        return [layer(hidden) for layer in layers]
    layers = tuple(_without_disabled(layer) for layer in layers)
    if all(type(layer) is nn.Linear for layer in layers):
        hidden = hidden.to(product_dtype(hidden))  # once: autocast caches casts of weights, not of inputs
        return [multiply(layer, hidden) for layer in layers]
    adapters = [plain_lora(layer) for layer in layers]
    present = [adapter for adapter in adapters if adapter is not None]
    if not present or is_autocasting(hidden):
        return [layer(hidden) for layer in layers]
    adapted = iter(_adapted(hidden, present))
    return [
        multiply(layer, hidden) if adapter is None else next(adapted)
        for layer, adapter in zip(layers, adapters, strict=True)
    ]


def _without_disabled(layer: Any) -> nn.Module:
    """Return the base layer of a peft layer whose adapters are disabled; else the layer itself.

    A layer with hooks or merged adapters is returned itself, too.
    """
    is_disabled = isinstance(layer, _lora_classes()) and layer.disable_adapters and not layer.merged
    return layer.base_layer if is_disabled and not has_hooks(layer) else layer  # type: ignore[no-any-return]


def plain_lora(layer: Any) -> Adapter | None:
    """Return the adapter of a peft layer if the layer computes exactly `Adapter`'s formula; else None.

    The matrices are the layer's own parameters.
    """
    if not isinstance(layer, _lora_classes()) or layer.disable_adapters or layer.merged:
        return None
    if len(layer.active_adapters) != 1:
        return None
    name = layer.active_adapters[0]
    if name not in layer.lora_A or name in layer.lora_variant:
        return None
    down, up, dropout = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name]
    drops = layer.training and not isinstance(dropout, nn.Identity)
    linear = type(down) is nn.Linear and type(up) is nn.Linear and up.bias is None
    base: nn.Module = layer.base_layer
    hooked = any(has_hooks(module) for module in (layer, down, up))
    hooked = hooked or (has_hooks(base) and not is_eight_bit(base))
    if drops or hooked or not linear or not getattr(layer, "cast_input_dtype_enabled", True):
        return None
    return Adapter(layer.base_layer, down.weight, up.weight, layer.scaling[name])


def is_lora_layer(module: nn.Module) -> bool:
    """Return whether `module` is peft's LoRA layer on a linear layer, quantized or not."""
    return isinstance(module, _lora_classes())


def _lora_classes() -> tuple[Any, ...]:
    """Return peft's classes of LoRA layers; none if peft isn't imported yet, which would take seconds."""
    names = {"peft.tuners.lora.layer": ("Linear",), "peft.tuners.lora.bnb": ("Linear4bit", "Linear8bitLt")}
    return tuple(
        getattr(sys.modules[module], name)
        for module, classes in names.items()
        if module in sys.modules
        for name in classes
        if hasattr(sys.modules[module], name)
    )


def _adapted(hidden: Tensor, adapters: list[Adapter]) -> tuple[Tensor, ...]:
    """Compute for each adapter the output of its base layer plus the adapter's update."""
    if lora_products.takes(hidden, _compute_dtype(hidden, adapters[0].down)):
        are_weights = [is_frozen_weight(adapter.base) for adapter in adapters]
        bases = [
            cast(Tensor, adapter.base.weight) if is_weight else multiply(adapter.base, hidden)
            for adapter, is_weight in zip(adapters, are_weights, strict=True)
        ]
        downs, ups = [adapter.down for adapter in adapters], [adapter.up for adapter in adapters]
        scalings = [adapter.scaling for adapter in adapters]
        return lora_products.adapted(hidden, bases, are_weights, downs, ups, scalings)
    outputs = [multiply(adapter.base, hidden) for adapter in adapters]
    scalings = [adapter.scaling for adapter in adapters]
    in_place = all(_owns_output(adapter.base) for adapter in adapters)
    weights = [weight for adapter in adapters for weight in (adapter.down, adapter.up)]
    return _Updates.apply(hidden, scalings, in_place, *outputs, *weights)  # type: ignore[no-any-return, no-untyped-call]


def is_frozen_weight(base: nn.Module) -> bool:
    """Return whether a layer is only a product with a weight that isn't trained."""
    is_linear = type(base) is nn.Linear and base.bias is None and not has_hooks(base)
    return is_linear and not base.weight.requires_grad


def _owns_output(base: nn.Module) -> bool:
    """Return whether a layer's output can be overwritten; with a bias or 4-bit weight it may be a view."""
    return base.bias is None and (type(base) is nn.Linear or is_eight_bit(base))


class _Updates(torch.autograd.Function):
    """Adds `scaling * up(down(hidden))` of each adapter to the output of its base layer."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, scalings: list[float], in_place: bool, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        count = len(scalings)
        outputs, downs, ups = list(tensors[:count]), tensors[count::2], tensors[count + 1 :: 2]
        if not in_place:
            outputs = [output.clone() for output in outputs]
        rows, flat = as_rows(hidden), [as_rows(output) for output in outputs]
        dtype = _compute_dtype(hidden, downs[0])
        down = torch.cat(downs).to(dtype).t()  # (I, R)
        scaled = [(up * s).to(dtype).t() for up, s in zip(ups, scalings, strict=True)]
        ranks = [len(down) for down in downs]
        inner = rows.new_empty(len(rows), sum(ranks), dtype=dtype)  # (T, R)
        for chunk in _chunks(rows, dtype):
            torch.mm(rows[chunk].to(dtype), down, out=inner[chunk])
            for output, adapter_inner, up in zip(
                flat, torch.split(inner[chunk], ranks, 1), scaled, strict=True
            ):
                _add_product(output[chunk], adapter_inner, up)
        if in_place:
            ctx.mark_dirty(*outputs)
        ctx.scalings = scalings
        ctx.save_for_backward(hidden, inner, *downs, *ups)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        hidden, inner, *weights = ctx.saved_tensors
        downs, ups = weights[: len(ctx.scalings)], weights[len(ctx.scalings) :]
        dtype = inner.dtype
        down = torch.cat(downs).to(dtype)
        scaled = [(up * s).to(dtype) for up, s in zip(ups, ctx.scalings, strict=True)]
        ranks = [len(down) for down in downs]
        rows, flat = as_rows(hidden), [as_rows(gradient) for gradient in gradients]
        up_grads = [torch.zeros_like(up.t()) for up in ups]
        down_grad = torch.zeros_like(down, dtype=downs[0].dtype)
        row_grads = []
        for chunk in _chunks(rows, dtype):
            slopes = []
            for gradient, adapter_inner, up, up_grad in zip(
                flat, torch.split(inner[chunk], ranks, 1), scaled, up_grads, strict=True
            ):
                exact = gradient[chunk].to(dtype)  # (chunk, O)
                _add_product(up_grad, adapter_inner.t(), exact)
                slopes.append(exact @ up)
            slope = torch.cat(slopes, 1)  # (chunk, R)
            _add_product(down_grad, slope.t(), rows[chunk].to(dtype))
            if ctx.needs_input_grad[0]:
                row_grads.append((slope @ down).to(rows.dtype))
        up_grads = [
            up_grad.mul_(scaling).t() for up_grad, scaling in zip(up_grads, ctx.scalings, strict=True)
        ]
        weight_grads = [
            grad for pair in zip(torch.split(down_grad, ranks), up_grads, strict=True) for grad in pair
        ]
        if len(row_grads) > 1:
            row_grads = [torch.cat(row_grads)]
        hidden_grad = row_grads[0].view(hidden.shape) if row_grads else None
        return hidden_grad, None, None, *gradients, *weight_grads


def _compute_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """Return the dtype of the adapters' products: bfloat16 if `hidden` is bfloat16, else the weights' dtype.

    This is the precision of autocast to bfloat16: a product sums in float32 and is rounded once, and weights
    and their summed gradients stay float32. An update is small compared to the output that it is added to, so
    its rounding error is small compared to the output's. float16 has too small a range for gradients.
    """
    return hidden.dtype if hidden.dtype == torch.bfloat16 else weight.dtype


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add `left @ right` to `total` in place; `total` may have another dtype."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _chunks(rows: Tensor, dtype: torch.dtype) -> list[slice]:
    """Return slices of the tokens `rows`, so that a slice's copy in `dtype` fits into a CPU's cache.

    One slice, if no copy is needed, or on another device.
    """
    size = CHUNK if rows.device.type == "cpu" and rows.dtype != dtype else max(len(rows), 1)
    return [slice(start, start + size) for start in range(0, len(rows), size)]
