"""A stored tensor: a Tensor, or a slice of a file that is read when it is indexed."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Stored(Protocol):
    """A tensor, or what becomes one by `[...]`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""

    @property
    def dtype(self) -> torch.dtype:
        """The tensor's type."""

    def __getitem__(self, index: Any, /) -> Tensor:
        """The tensor itself for `...`."""
