"""Replaces the forward of peft's LoRA layers by one that stores less, in models of transformers' own classes.

Each of peft's layers stores a float32 copy of a half-precision input for the backward pass. `lora_projection`
computes the same without the copy, for the layers that it knows exactly; all others compute as in peft.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models.ops.fused import is_plain
from workbench.models.ops.lora_projection import is_lora_layer, plain_lora, project


def use_lora_products(model: nn.Module) -> int:
    """Replace the forward of all LoRA layers of peft in `model` by one that uses `lora_projection` if it can.

    Args:
        model: A model with adapters; its layers are changed in place.

    Returns:
        The number of LoRA layers, 0 for a model without adapters.
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
