"""Defines the interface of stored tensors: in memory, or read from a file when indexed."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Stored(Protocol):
    """A tensor, or an object that returns a tensor when indexed by `[...]`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the tensor's shape."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the tensor's dtype."""

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return the tensor, read from its file if need be; the only index is `...`."""
