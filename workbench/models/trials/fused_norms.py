"""Lets norms of transformers' own classes compute their formula with fewer passes and stored activations.

Such a norm stores float32 copies of its input for the backward pass. Which of the known formulas a module
computes is found by a trial, with its weights and without its class: values and gradients in float32 and in
the module's own dtype, where formulas that round at other points differ.

Shapes: T tokens, H width of the norm.
"""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.ops.elementwise import norm_in_float32, rms_norm
from workbench.models.ops.fused import is_plain
from workbench.models.ops.hooks import has_hooks
from workbench.models.trials.kinds import kind_of

Formula = Callable[[Tensor, Tensor], Tensor]
"""Function of hidden states (..., H) and weight (H,)."""

NORMS: tuple[Callable[..., Tensor], ...] = (
    rms_norm,
    norm_in_float32,
    partial(norm_in_float32, offset=1.0),
    partial(norm_in_float32, is_centred=True),
)
"""Formulas of LLaMA, OLMo 2, Gemma and Cohere."""
SCALES = (1e-3, 1.0, 30.0)
"""Factors on the inputs: the smallest shows the epsilon."""
NUM_VALUES = 4096
"""Smallest number of values of the trial's input."""
ROUNDING = 1e-5
"""Largest difference in float32, relative to the largest value."""
SHARE = 0.01
"""Largest share of 16-bit values that may differ, by a unit of rounding: with a formula that rounds at other
points, a quarter of them differ."""
MOST_EPS = 0.1


def use_fused_norms(model: nn.Module) -> list[str]:
    """Let the norms in `model` compute their formula in fewer passes, where a trial finds it equal.

    Args:
        model: A model in eval mode, which may be on the meta device; its norms are changed in place.

    Returns:
        Names of the classes of norms that stay as they are, without those of torch.
    """
    formulas: dict[Any, Formula | None] = {}
    left: dict[str, None] = {}
    for module in model.modules():
        if not _may_be_norm(module):
            continue
        kind = kind_of(module)
        if kind not in formulas:
            formulas[kind] = _formula(module)
        formula = formulas[kind]
        if formula is not None:
            module.forward = MethodType(_by(formula), module)
        elif "norm" in type(module).__name__.lower():
            left[type(module).__name__] = None
    return list(left)


def _may_be_norm(module: nn.Module) -> bool:
    """Return whether `module` has a weight (H,) and nothing else, and no faster way to compute it yet."""
    names = [name for name, _ in module.named_parameters()]
    weight = getattr(module, "weight", None)
    is_alone = names == ["weight"] and not list(module.children()) and not list(module.buffers())
    is_torch = type(module).__module__.startswith("torch.")
    is_vector = isinstance(weight, Tensor) and weight.dim() == 1 and weight.is_floating_point()
    return is_alone and is_vector and not is_torch and "forward" not in vars(module) and not has_hooks(module)


def _by(formula: Formula) -> Callable[..., Tensor]:
    """Return a method `forward` for a norm that computes `formula`."""

    def forward(self: Any, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or is_plain():
            result: Tensor = type(self).forward(self, hidden, *args, **kwargs)
            return result
        return formula(hidden, self.weight)

    return forward


def _formula(module: nn.Module) -> Formula | None:
    """Return the known function of hidden states and weight that `module` computes; None if there is none."""
    if module.weight.device.type == "meta":
        module = copy.deepcopy(module).to_empty(device="cpu")
        nn.init.normal_(module.weight)  # type: ignore[arg-type]
    for eps in _epsilons(module):
        for norm in NORMS:
            formula = partial(norm, eps=eps)
            try:
                if _is_equal(module, formula):
                    return formula
            except BROKEN:
                return None  # it isn't a function of hidden states (..., H) alone
    return None


def _epsilons(module: nn.Module) -> Iterator[float]:
    """Yield the small numbers among a module's attributes."""
    yield from {value for value in vars(module).values() if isinstance(value, float) and 0 < value < MOST_EPS}


def _is_equal(module: nn.Module, formula: Formula) -> bool:
    """Return whether values and gradients of `formula` are those of the module's own code."""
    weight: Tensor = module.weight.detach()  # type: ignore[operator]

    def own(hidden: Tensor, weight: Tensor) -> Tensor:
        result: Tensor = functional_call(module, {"weight": weight}, (hidden,))
        return result

    for hidden_dtype, weight_dtype in _dtypes(weight.dtype):
        for hidden, gradient in _inputs(weight):
            arguments = hidden.to(hidden_dtype), weight.to(weight_dtype), gradient
            expected = _values_and_gradients(own, *arguments)
            ours = _values_and_gradients(formula, *arguments)
            roundest = max(hidden_dtype, weight_dtype, key=lambda dtype: torch.finfo(dtype).eps)
            are_same = [
                _same(values, own_values, roundest, is_sum=is_sum)
                for values, own_values, is_sum in zip(ours, expected, (False, False, True), strict=True)
            ]
            if not all(are_same):
                return False
    return True


def _dtypes(own: torch.dtype) -> list[tuple[torch.dtype, torch.dtype]]:
    """Return dtypes of hidden states and weight: equal ones, and those that mixed precision has."""
    equal = {dtype: dtype for dtype in (torch.float32, torch.bfloat16, own)}
    return [*equal.items(), (torch.bfloat16, torch.float32), (torch.float32, own)]


def _inputs(weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs (1, T, H) of several scales, whose mean isn't 0, with gradients of the output."""
    generator = torch.Generator().manual_seed(0)
    width = len(weight)
    for scale in SCALES:
        drawn = torch.randn(2, 1, max(8, -(-NUM_VALUES // width)), width, generator=generator)
        hidden, gradient = drawn.to(weight.device)
        yield (hidden + 0.5) * scale, gradient


@torch.enable_grad()
def _values_and_gradients(
    norm: Formula, hidden: Tensor, weight: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the gradients of input and weight."""
    hidden, weight = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
    output = norm(hidden, weight)
    of_hidden, of_weight = torch.autograd.grad(output, (hidden, weight), gradient.to(output.dtype))
    return output.detach(), of_hidden, of_weight


def _same(ours: Tensor, expected: Tensor, rounded_to: torch.dtype, *, is_sum: bool) -> bool:
    """Return whether values are equal within rounding.

    Args:
        ours: The formula's values.
        expected: Those of the module's own code.
        rounded_to: dtype that the values were rounded to on the way. If it has 16 bits, all but a few must be
            the same.
        is_sum: Whether they are sums over tokens, in which the few add up.
    """
    if ours.dtype != expected.dtype or not bool((ours.isfinite() & expected.isfinite()).all()):
        return False
    difference, size = (ours.float() - expected.float()).abs(), expected.float().abs()
    differs = difference > ROUNDING * size.max()
    if rounded_to == torch.float32:
        return not bool(differs.any())
    unit = 2 * torch.finfo(rounded_to).eps
    if is_sum:
        return bool(difference.max() <= unit * size.max())
    is_near = difference <= unit * size
    return bool((is_near | ~differs).all()) and int(differs.sum()) <= 1 + SHARE * ours.numel()
