"""Stored tensors: in memory, or read from a file, converted or checked when indexed."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.models.dtypes import dtype_name


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


@dataclass(frozen=True)
class Cast:
    """Stored tensor that indexing reads and converts to another dtype."""

    stored: Stored
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the tensor's shape."""
        return self.stored.shape

    def __getitem__(self, index: Any, /) -> Tensor:
        """Read and convert the tensor; the only index is `...`."""
        return self.stored[...].to(self.dtype)


@dataclass(frozen=True)
class FiniteTensor:
    """Stored tensor that indexing reads and checks for NaN and infinite values."""

    where: str
    """File and name of the tensor, for error messages."""
    stored: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the tensor's shape."""
        return self.stored.shape

    @property
    def dtype(self) -> torch.dtype:
        """Return the tensor's dtype."""
        return self.stored.dtype

    def __getitem__(self, index: Any, /) -> Tensor:
        """Read the tensor and check its values; the only index is `...`."""
        tensor = self.stored[...]
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{self.where}: has NaN or infinite values in {dtype_name(tensor.dtype)} "
                "(damaged weights, or the dtype's range is too small: try export.dtype=float32)"
            )
        return tensor
