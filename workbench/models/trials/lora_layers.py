"""Lets peft's LoRA layers in models of transformers' own classes share the products of their input.

Each of peft's layers stores a float32 copy of a half-precision input for the backward pass. `lora_projection`
computes the same without the copy, and joins the products of layers that get the same input, such as those
for queries, keys and values. A trial shows which layers of a module do. In later calls of the module, the
first of them computes the outputs of all, and the others take theirs if they get the same tensor.

All layers that `lora_projection` doesn't know exactly are called as they are.
"""

from collections import Counter
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from workbench.contexts import forked_random_state
from workbench.errors import first_line
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.dtypes import is_autocasting
from workbench.models.ops.fused import is_plain
from workbench.models.ops.lora_projection import is_lora_layer, plain_lora, project
from workbench.models.trials.trial_text import trial_ids


class JointLayers:
    """LoRA layers that get the same input during a call of the module that they belong to."""

    def __init__(self, layers: list[Any]) -> None:
        """Create the group; its layers are computed one by one until `open` is called."""
        self.layers = layers
        self.version = 0
        self.close()

    def open(self, *_: Any) -> None:
        """Begin a call of the module."""
        self.is_open = True

    def close(self, *_: Any) -> None:
        """End a call of the module: no output outlives it."""
        self.is_open = False
        self.input: Tensor | None = None
        self.outputs: dict[nn.Module, Tensor] = {}

    def output(self, layer: Any, hidden: Tensor) -> Tensor:
        """Return the output of a layer; the outputs of the others are kept for the calls to come."""
        if not self.is_open or not torch.is_grad_enabled():
            return project(hidden, layer)[0]
        if self.input is not hidden or self.version != hidden._version or layer not in self.outputs:
            plain = [each for each in self.layers if each is layer or plain_lora(each) is not None]
            self.input, self.version = hidden, hidden._version
            self.outputs = dict(zip(plain, project(hidden, *plain), strict=True))
        return self.outputs.pop(layer)


def use_lora_products(model: Any) -> str:
    """Let all LoRA layers of peft in `model` compute their outputs by `lora_projection` where it can.

    Args:
        model: A model with adapters; the layers are changed in place.

    Returns:
        Why no layers share products, as a phrase; empty if they do, or have no common input.
    """
    layers = [module for module in model.modules() if is_lora_layer(module)]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    if not layers:
        return ""
    try:
        groups = _groups(model, layers)
    except BROKEN as error:  # the model may need further inputs
        return f"the trial ended with {type(error).__name__}: {first_line(error):.80}"
    for parent, group in groups:
        joint = JointLayers(group)
        parent.register_forward_pre_hook(joint.open)
        parent.register_forward_hook(joint.close, always_call=True)
        for layer in group:
            layer.joint = joint
    return ""


def _forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Compute a LoRA layer's output; see `forward` of the layer's class in peft."""
    is_known = not args and not kwargs and not is_plain() and plain_lora(self) is not None
    if not is_known or is_autocasting(x):
        return type(self).forward(self, x, *args, **kwargs)
    joint = vars(self).get("joint")
    return project(x, self)[0] if joint is None else joint.output(self, x)


def _groups(model: Any, layers: list[nn.Module]) -> list[tuple[nn.Module, list[Any]]]:
    """Return modules with those of their LoRA layers that got the same tensor in a trial, in that order."""
    parents = {child: module for module in model.modules() for child in module.children()}
    calls: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args: calls.append((layer, args[0])))
        for layer in layers
    ]
    was_training = model.training
    try:
        with torch.no_grad(), forked_random_state():
            model.eval()(input_ids=trial_ids(model), use_cache=False)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    counts = Counter(layer for layer, _ in calls)
    groups: dict[tuple[nn.Module, int], list[Any]] = {}
    for layer, hidden in calls:  # `calls` keeps the tensors, so that no two have the same id
        if counts[layer] == 1:
            groups.setdefault((parents[layer], id(hidden)), []).append(layer)
    return [(parent, group) for (parent, _), group in groups.items() if len(group) > 1]
