"""Tensors of checkpoints, in memory or in files: those in files are read each time they are indexed."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.models.dtypes import dtype_name


class Stored(Protocol):
    """Tensor in memory, or an object with its shape and dtype that reads a tensor when indexed by `[...]`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the tensor's shape."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the tensor's dtype."""

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return the tensor: itself if it is in memory, else read from its file; the only index is `...`."""


@dataclass(frozen=True)
class Cast:
    """Stored tensor that is converted to another dtype each time it is read."""

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
    """Stored tensor that is checked for NaN and infinite values each time it is read."""

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
        """Read the tensor and check its values; the only index is `...`.

        Raises:
            CheckpointError: A value is NaN or infinite.
        """
        tensor = self.stored[...]
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{self.where}: has NaN or infinite values in {dtype_name(tensor.dtype)} "
                "(damaged weights, or the dtype's range is too small: try export.dtype=float32)"
            )
        return tensor
