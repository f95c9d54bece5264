"""Whether calling a module does more than its own forward."""

from collections.abc import Callable
from typing import Any

from torch import nn


def has_hooks(module: nn.Module, but: Callable[..., Any] | None = None) -> bool:
    """Whether a hook, of torch or of accelerate, waits for a call of `module`; `but` is one that may."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    waiting = [hook for kind in hooks for hook in kind.values() if hook is not but]
    return bool(waiting) or hasattr(module, "_hf_hook")
