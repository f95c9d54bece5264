"""Collects the inputs of a language model's head, without computing logits, which take most memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def head_inputs(head: nn.Module) -> Iterator[list[Tensor]]:
    """Within the context, call `head` with no positions, and collect what it would have got (B, S, H)."""
    hidden: list[Tensor] = []

    def drop_positions(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden.append(args[0])
        return (args[0][:, :0], *args[1:])

    handle = head.register_forward_pre_hook(drop_positions)
    try:
        yield hidden
    finally:
        handle.remove()
