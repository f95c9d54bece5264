"""What decides the formula of a module, so that modules of one kind share a trial."""

from typing import Any

from torch import nn

OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def kind_of(module: nn.Module) -> tuple[Any, ...]:
    """Return a key of all that decides what a module computes, except for the values of its weights."""
    return tuple((name, type(child), _attributes(child)) for name, child in module.named_modules()) + tuple(
        (name, weight.shape, weight.dtype, weight.device) for name, weight in module.named_parameters()
    )


def _attributes(module: nn.Module) -> str:
    own = {name: value for name, value in vars(module).items() if name not in OF_EVERY_MODULE}
    return repr(sorted(own.items()))
