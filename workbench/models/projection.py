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

from workbench.models.prepacked import multiply

PART = 256  # tokens: their float32 copies stay in the cache


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
    layers = tuple(_without_disabled(layer) for layer in layers)
    if all(type(layer) is nn.Linear for layer in layers):
        return [multiply(layer, hidden) for layer in layers]
    adapters = [plain_lora(layer) for layer in layers]
    found = [adapter for adapter in adapters if adapter is not None]
    if not found or torch.compiler.is_compiling() or torch.is_autocast_enabled(hidden.device.type):
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
    hooked = any(has_hooks(module) for module in (layer, layer.base_layer, down, up))
    if drops or hooked or not linear or not getattr(layer, "cast_input_dtype_enabled", True):
        return None
    return Adapter(layer.base_layer, down.weight, up.weight, layer.scaling[name])


def has_hooks(module: nn.Module) -> bool:
    """Whether calling the module does more than its forward."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or hasattr(module, "_hf_hook")


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
    own = all(type(adapter.base) is nn.Linear for adapter in adapters)
    weights = [weight for adapter in adapters for weight in (adapter.down, adapter.up)]
    return _Updates.apply(hidden, scalings, own, *outputs, *weights)  # type: ignore[no-any-return, no-untyped-call]


class _Updates(torch.autograd.Function):
    """Adds every adapter's update of one input to the output of its layer, some tokens at a time."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, scalings: list[float], own: bool, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        count = len(scalings)
        outputs, downs, ups = list(tensors[:count]), tensors[count::2], tensors[count + 1 :: 2]
        if not own:
            outputs = [output.clone() for output in outputs]
        rows, flat = _rows(hidden), [_rows(output) for output in outputs]
        down, scaled = torch.cat(downs).t(), [up.t() * s for up, s in zip(ups, scalings, strict=True)]
        ranks = [len(down) for down in downs]
        inner = rows.new_empty(len(rows), sum(ranks), dtype=down.dtype)  # (T, R)
        for part in _parts(rows):
            torch.mm(rows[part].to(down.dtype), down, out=inner[part])
            for output, piece, up in zip(flat, torch.split(inner[part], ranks, 1), scaled, strict=True):
                output[part].add_(piece @ up)
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
        down, scaled = torch.cat(downs), [up * s for up, s in zip(ups, ctx.scalings, strict=True)]
        ranks = [len(down) for down in downs]
        rows, flat = _rows(hidden), [_rows(gradient) for gradient in gradients]
        by_ups, by_down = [torch.zeros_like(up) for up in ups], torch.zeros_like(down)
        by_rows = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        for part in _parts(rows):
            slopes = []
            for gradient, piece, up, by_up in zip(
                flat, torch.split(inner[part], ranks, 1), scaled, by_ups, strict=True
            ):
                exact = gradient[part].to(down.dtype)  # (part, O)
                by_up.addmm_(exact.t(), piece)
                slopes.append(exact @ up)
            slope = torch.cat(slopes, 1)  # (part, R)
            by_down.addmm_(slope.t(), rows[part].to(down.dtype))
            if by_rows is not None:
                by_rows[part] = slope @ down
        by_ups = [by_up.mul_(scaling) for by_up, scaling in zip(by_ups, ctx.scalings, strict=True)]
        by_weights = [each for pair in zip(torch.split(by_down, ranks), by_ups, strict=True) for each in pair]
        by_hidden = None if by_rows is None else by_rows.view(hidden.shape)
        return by_hidden, None, None, *gradients, *by_weights


def _parts(rows: Tensor) -> list[slice]:
    """Tokens that go together: on a CPU as many as leave their float32 copies in the cache."""
    size = PART if rows.device.type == "cpu" else max(len(rows), 1)
    return [slice(start, start + size) for start in range(0, len(rows), size)]


def _rows(states: Tensor) -> Tensor:
    return states.reshape(-1, states.shape[-1])
