"""Protocol of stored tensors: tensors in memory, and tensors that are read from a file when indexed."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Stored(Protocol):
    """Tensor, or an object that returns one for `[...]`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the tensor's shape."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the tensor's dtype."""

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return the tensor; the index is `...`."""
