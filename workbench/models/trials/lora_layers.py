"""Lets peft's LoRA layers in models of transformers' own classes store their input once, in its own dtype.

Each of peft's layers stores a float32 copy of a half-precision input for the backward pass. `lora_projection`
computes the same without the copy, for the layers that it knows exactly; all others are called as they are.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models.ops.fused import is_plain
from workbench.models.ops.lora_projection import is_lora_layer, plain_lora, project


def use_lora_products(model: nn.Module) -> int:
    """Let all LoRA layers of peft in `model` compute their outputs by `lora_projection` where it can.

    Args:
        model: A model with adapters; the layers are changed in place.

    Returns:
        The number of LoRA layers.
    """
    layers = [module for module in model.modules() if is_lora_layer(module)]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    return len(layers)


def _forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Compute a LoRA layer's output; see `forward` of the layer's class in peft."""
    is_known = not args and not kwargs and not is_plain() and plain_lora(self) is not None
    if is_known and not torch.is_autocast_enabled(x.device.type):
        return project(x, self)[0]
    return type(self).forward(self, x, *args, **kwargs)
