"""Several linear layers on the same input: LoRA adapters among them share the work on it.

Each peft layer keeps, for the backward pass, its own float32 copy of a half-precision input, which for the
seven projections of a decoder layer is most of the memory of a training step. Here the adapters of one input
are one product, and what is kept is the input itself. The layers stay where they are: peft sees, saves,
merges and switches them as ever, and a layer with anything unusual (another method than plain LoRA, dropout,
hooks, several adapters) is simply called.

Shapes: T tokens (all leading dimensions), I inputs, O outputs, R ranks of all adapters together.
"""

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from workbench.models.ops.elementwise import product_dtype
from workbench.models.ops.fused import is_plain
from workbench.models.ops.hooks import has_hooks
from workbench.models.ops.int8_linear import is_eight_bit
from workbench.models.ops.prepacked_linear import multiply

PART = 256  # tokens: their copies in another dtype stay in the cache


@dataclass(frozen=True)
class Adapter:
    """Plain LoRA on one layer: `base(x) + scaling * up(down(x))`. Source: arXiv:2106.09685, section 4.1."""

    base: nn.Module
    down: Tensor
    """(rank, I)."""
    up: Tensor
    """(O, rank)."""
    scaling: float


def project(hidden: Tensor, *layers: nn.Module) -> list[Tensor]:
    """What each of `layers` gives for `hidden` (..., I)."""
    if is_plain():
        return [layer(hidden) for layer in layers]
    layers = tuple(_without_disabled(layer) for layer in layers)
    if all(type(layer) is nn.Linear for layer in layers):
        hidden = hidden.to(product_dtype(hidden))  # once: autocast keeps casts of weights, not of inputs
        return [multiply(layer, hidden) for layer in layers]
    adapters = [plain_lora(layer) for layer in layers]
    found = [adapter for adapter in adapters if adapter is not None]
    if not found or torch.is_autocast_enabled(hidden.device.type):
        return [layer(hidden) for layer in layers]
    shared = iter(_adapted(hidden, found))
    return [
        multiply(layer, hidden) if adapter is None else next(shared)
        for layer, adapter in zip(layers, adapters, strict=True)
    ]


def _without_disabled(layer: Any) -> nn.Module:
    """The layer below an adapter that is switched off: all that peft would call."""
    off = isinstance(layer, _lora_classes()) and layer.disable_adapters and not layer.merged
    return layer.base_layer if off and not has_hooks(layer) else layer  # type: ignore[no-any-return]


def plain_lora(layer: Any) -> Adapter | None:
    """The one adapter at work in a peft layer, if calling the layer is what `Adapter` says and no more."""
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


def _lora_classes() -> tuple[Any, ...]:
    """Peft's layers, if it is there: without it there is no adapter, and importing it takes seconds."""
    names = {"peft.tuners.lora.layer": ("Linear",), "peft.tuners.lora.bnb": ("Linear4bit", "Linear8bitLt")}
    return tuple(
        getattr(sys.modules[module], name)
        for module, classes in names.items()
        if module in sys.modules
        for name in classes
        if hasattr(sys.modules[module], name)
    )


def _adapted(hidden: Tensor, adapters: list[Adapter]) -> tuple[Tensor, ...]:
    """The output of each adapted layer."""
    outputs = [multiply(adapter.base, hidden) for adapter in adapters]
    scalings = [adapter.scaling for adapter in adapters]
    # What a plain linear layer returns is its own and may be added to; a quantized one may return a view.
    own = all(type(adapter.base) is nn.Linear or is_eight_bit(adapter.base) for adapter in adapters)
    weights = [weight for adapter in adapters for weight in (adapter.down, adapter.up)]
    return _Updates.apply(hidden, scalings, own, *outputs, *weights)  # type: ignore[no-any-return, no-untyped-call]


class _Updates(torch.autograd.Function):
    """Adds every adapter's update of one input to the output of its layer."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, scalings: list[float], own: bool, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        count = len(scalings)
        outputs, downs, ups = list(tensors[:count]), tensors[count::2], tensors[count + 1 :: 2]
        if not own:
            outputs = [output.clone() for output in outputs]
        rows, flat = _rows(hidden), [_rows(output) for output in outputs]
        dtype = _compute_dtype(hidden, downs[0])
        down = torch.cat(downs).to(dtype).t()  # (I, R)
        scaled = [(up * s).to(dtype).t() for up, s in zip(ups, scalings, strict=True)]
        ranks = [len(down) for down in downs]
        inner = rows.new_empty(len(rows), sum(ranks), dtype=dtype)  # (T, R)
        for part in _parts(rows, dtype):
            torch.mm(rows[part].to(dtype), down, out=inner[part])
            for output, piece, up in zip(flat, torch.split(inner[part], ranks, 1), scaled, strict=True):
                _add_product(output[part], piece, up)
        if own:
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
        rows, flat = _rows(hidden), [_rows(gradient) for gradient in gradients]
        by_ups = [torch.zeros_like(up.t()) for up in ups]
        by_down = torch.zeros_like(down, dtype=downs[0].dtype)
        by_rows = []
        for part in _parts(rows, dtype):
            slopes = []
            for gradient, piece, up, by_up in zip(
                flat, torch.split(inner[part], ranks, 1), scaled, by_ups, strict=True
            ):
                exact = gradient[part].to(dtype)  # (part, O)
                _add_product(by_up, piece.t(), exact)
                slopes.append(exact @ up)
            slope = torch.cat(slopes, 1)  # (part, R)
            _add_product(by_down, slope.t(), rows[part].to(dtype))
            if ctx.needs_input_grad[0]:
                by_rows.append((slope @ down).to(rows.dtype))
        by_ups = [by_up.mul_(scaling).t() for by_up, scaling in zip(by_ups, ctx.scalings, strict=True)]
        by_weights = [each for pair in zip(torch.split(by_down, ranks), by_ups, strict=True) for each in pair]
        if len(by_rows) > 1:
            by_rows = [torch.cat(by_rows)]
        by_hidden = by_rows[0].view(hidden.shape) if by_rows else None
        return by_hidden, None, None, *gradients, *by_weights


def _compute_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """What the adapters' products are made of: bfloat16 where `hidden` is, else their own dtype.

    As under autocast to bfloat16: a product sums in float32 and is rounded once, weights and what their
    gradients add up to stay float32. An update is small beside what it is added to, and so is its rounding
    beside that of the sum. float16 has too narrow a range for gradients.
    """
    return hidden.dtype if hidden.dtype == torch.bfloat16 else weight.dtype


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add `left @ right` to `total`, of whatever dtype that is."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _parts(rows: Tensor, dtype: torch.dtype) -> list[slice]:
    """Tokens that go together: if a CPU copies them to another dtype, as many as leave that in the cache."""
    size = PART if rows.device.type == "cpu" and rows.dtype != dtype else max(len(rows), 1)
    return [slice(start, start + size) for start in range(0, len(rows), size)]


def _rows(states: Tensor) -> Tensor:
    return states.reshape(-1, states.shape[-1])
