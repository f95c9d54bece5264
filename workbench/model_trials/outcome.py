"""Scales of a trial, and the errors that it may end with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import first_line

ERRORS = (
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    NotImplementedError,
    LookupError,
    AssertionError,
)
"""Exceptions of models that don't take what a trial gives them."""
SCALES = (1.0, 30.0)
"""Factors on the outputs of all norms: a soft cap on attention scores changes small ones too little."""


def scales(dtype: torch.dtype) -> tuple[float, ...]:
    """Return those of SCALES that a model of this dtype can compute: float16 overflows at large scales."""
    return SCALES[:1] if dtype == torch.float16 else SCALES


@contextmanager
def amplified(model: nn.Module, factor: float) -> Iterator[None]:
    """Within the context, multiply the outputs of the model's norms (by their class names) by `factor`."""

    def multiply(_module: nn.Module, _args: tuple[Any, ...], output: object) -> object:
        return output * factor if isinstance(output, Tensor) else output

    norms = [] if factor == 1 else [module for module in model.modules() if "Norm" in type(module).__name__]
    handles = [norm.register_forward_hook(multiply) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def failure(error: BaseException) -> str:
    """Describe, as a phrase, the exception that a trial ended with."""
    return f"the trial ended with {type(error).__name__}: {first_line(error):.80}"
