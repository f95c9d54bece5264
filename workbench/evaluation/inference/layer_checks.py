"""Calls a function before each layer of a model, so that a long forward pass can be stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def checked_layers(model: nn.Module, check: Callable[[], None]) -> Iterator[None]:
    """In the `with` block, call `check` before each layer computes; what it raises ends the forward pass.

    Numbers stay as they are, unlike those of a prompt that is computed in parts, which rounds otherwise.

    Args:
        model: A model of transformers or of this project; its layers are found by their class.
        check: The function, which is called in the thread that computes.
    """

    def before_layer(*_: object) -> None:
        check()

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    handles = [layer.register_forward_pre_hook(before_layer) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
