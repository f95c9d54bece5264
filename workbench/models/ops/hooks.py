"""Detects whether calling a module does more than its forward method."""

from collections.abc import Callable
from typing import Any

from torch import nn


def has_hooks(module: nn.Module, but: Callable[..., Any] | None = None) -> bool:
    """Return whether `module` has a hook of torch other than the function `but`, or one of accelerate."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    other_hooks = [hook for hooks_of_kind in hooks for hook in hooks_of_kind.values() if hook is not but]
    return bool(other_hooks) or hasattr(module, "_hf_hook")
