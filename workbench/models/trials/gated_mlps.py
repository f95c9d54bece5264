"""Lets gated MLPs of transformers' own classes store less for the backward pass.

Such an MLP stores its activated gate, and also the gate and the other factor. A trial shows whether a module
computes `down(activation(gate(x)) * up(x))`: its values and gradients must be the same to the bit.
"""

from collections.abc import Callable, Iterator, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from workbench.contexts import forked_random_state
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.ops.elementwise import gated
from workbench.models.ops.fused import is_plain, not_compiled
from workbench.models.ops.hooks import has_hooks
from workbench.models.ops.lora_projection import project
from workbench.models.trials.kinds import kind_of

LAYOUTS = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"), ("gate_up_proj", "down_proj"))
"""Names of the layers for gate, other factor and output, or for both factors together and output."""
SCALES = (1.0, 30.0)
"""Factors on the inputs: a clamp changes small values too little to be seen."""
NUM_TOKENS = 8

Formula = Callable[[Any, Tensor], Tensor]
"""Function of an MLP and its input."""


def use_gated_mlps(model: nn.Module) -> list[str]:
    """Let the gated MLPs in `model` store only the factors of their product, where a trial finds that exact.

    Only calls with gradients change.

    Args:
        model: A model; its MLPs are changed in place.

    Returns:
        Names of the classes of gated MLPs that stay as they are.
    """
    formulas: dict[Any, Formula | None] = {}
    left: dict[str, None] = {}
    with forked_random_state(), not_compiled():  # an MLP may drop values
        for module in model.modules():
            layout = _layout(module)
            if layout is None:
                continue
            kind = kind_of(module)
            if kind not in formulas:
                formulas[kind] = _formula(module, *layout)
            formula = formulas[kind]
            if formula is None:
                left[type(module).__name__] = None
            else:
                module.forward = MethodType(_by(formula), module)
    return list(left)


def _layout(module: nn.Module) -> tuple[Sequence[str], str] | None:
    """Return the names of an MLP's layers, and that of its activation; None for other modules."""
    if "forward" in vars(module) or has_hooks(module):
        return None
    children = dict(module.named_children())
    for names in LAYOUTS:
        others = [name for name in children if name not in names]
        if set(names) <= children.keys() and len(others) == 1:
            return names, others[0]
    return None


def _by(formula: Formula) -> Callable[..., Tensor]:
    """Return a method `forward` for an MLP that computes `formula`."""

    def forward(self: Any, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or is_plain() or not torch.is_grad_enabled():
            result: Tensor = type(self).forward(self, hidden, *args, **kwargs)
            return result
        return formula(self, hidden)

    return forward


def _formula(mlp: nn.Module, layers: Sequence[str], activation: str) -> Formula | None:
    """Return the known function that an MLP computes; None if it computes another.

    Args:
        mlp: The MLP.
        layers: Names of its layers, as in LAYOUTS.
        activation: Name of its activation.
    """

    def formula(mlp: Any, hidden: Tensor) -> Tensor:
        *factors, down = (getattr(mlp, name) for name in layers)
        products = project(hidden, *factors)
        gate, up = products if len(products) == 2 else products[0].chunk(2, -1)
        [output] = project(gated(getattr(mlp, activation), gate, up), down)
        return output

    return formula if _is_equal(mlp, formula, layers[0]) else None


def _is_equal(mlp: nn.Module, formula: Formula, first: str) -> bool:
    """Return whether values and gradients of `formula` in train mode are those of the module's own code.

    `first` is the name of a layer that gets the input.
    """
    was_training = mlp.training
    mlp.train()
    try:
        for hidden in _inputs(getattr(mlp, first)):
            ours, expected = (_values_and_gradient(f, mlp, hidden) for f in (formula, type(mlp).forward))
            if not all(map(torch.equal, ours, expected)):
                return False
    except BROKEN:
        return False
    finally:
        mlp.train(was_training)
    return True


def _inputs(layer: Any) -> Iterator[Tensor]:
    """Yield inputs (1, S, H) of several scales, in the dtype of the weight if that isn't quantized."""
    dtype = layer.weight.dtype if layer.weight.is_floating_point() else torch.get_default_dtype()
    drawn = torch.randn(1, NUM_TOKENS, layer.in_features, generator=torch.Generator().manual_seed(0))
    for scale in SCALES:
        yield (drawn * scale).to(layer.weight.device, dtype)


@torch.enable_grad()
def _values_and_gradient(formula: Formula, mlp: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the gradient of the input."""
    hidden = hidden.detach().requires_grad_()
    output = formula(mlp, hidden)
    [gradient] = torch.autograd.grad(output, hidden, output.detach().cos())
    return output.detach(), gradient
