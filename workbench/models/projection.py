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
    if all(type(layer) is nn.Linear for layer in layers):
        return [layer(hidden) for layer in layers]
    adapters = [plain_lora(layer) for layer in layers]
    found = [adapter for adapter in adapters if adapter is not None]
    if not found or torch.compiler.is_compiling() or torch.is_autocast_enabled(hidden.device.type):
        return [layer(hidden) for layer in layers]
    shared = iter(_adapted(hidden, found))
    return [layer(hidden) if a is None else next(shared) for layer, a in zip(layers, adapters, strict=True)]


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
    outputs = [adapter.base(hidden) for adapter in adapters]
    scalings = [adapter.scaling for adapter in adapters]
    # What a plain linear layer returns is its own and may be added to; a quantized one may return a view.
    own = all(type(adapter.base) is nn.Linear for adapter in adapters)
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
        inner = _rows(hidden).to(downs[0].dtype) @ torch.cat(downs).t()  # (T, R)
        for i, part in enumerate(torch.split(inner, [len(down) for down in downs], 1)):
            update = part @ (ups[i] * scalings[i]).t()  # (T, O)
            update = update.view(outputs[i].shape)
            outputs[i] = outputs[i].add_(update) if own else (outputs[i] + update).to(outputs[i].dtype)
        if own:
            ctx.mark_dirty(*outputs)
        ctx.scalings = scalings
        ctx.save_for_backward(hidden, inner, *downs, *ups)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        hidden, inner, *weights = ctx.saved_tensors
        count = len(ctx.scalings)
        downs, ups = weights[:count], weights[count:]
        ranks = [len(down) for down in downs]
        slopes, by_ups = [], []
        for gradient, part, up, scaling in zip(
            gradients, torch.split(inner, ranks, 1), ups, ctx.scalings, strict=True
        ):
            exact = _rows(gradient).to(inner.dtype)  # (T, O)
            by_ups.append((exact.t() @ part).mul_(scaling))
            slopes.append(exact @ (up * scaling))
        slope = torch.cat(slopes, 1)  # (T, R)
        by_downs = torch.split(slope.t() @ _rows(hidden).to(inner.dtype), ranks)
        by_hidden = None
        if ctx.needs_input_grad[0]:
            by_hidden = (slope @ torch.cat(downs)).to(hidden.dtype).view(hidden.shape)
        by_weights = [by_weight for pair in zip(by_downs, by_ups, strict=True) for by_weight in pair]
        return by_hidden, None, None, *gradients, *by_weights


def _rows(states: Tensor) -> Tensor:
    return states.reshape(-1, states.shape[-1])
