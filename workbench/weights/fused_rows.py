"""Projections that a file stores as rows of one fused tensor; only their own rows are read."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.weights.file_tensors import FileTensor
from workbench.weights.unpacking.unpacked_rows import UnpackedRows


@dataclass(frozen=True, kw_only=True)
class FusedRows:
    """One projection (queries, keys or values) in a fused tensor: the same rows of each group of rows."""

    fused: FileTensor | UnpackedRows | Tensor
    group: int
    """Rows of a group."""
    start: int
    """Number of the first row in its group."""
    count: int
    """Rows in each group."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the projection."""
        return (self.fused.shape[0] // self.group * self.count, *self.fused.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Return the tensor's dtype."""
        return self.fused.dtype

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return the entire projection; the only index is `...`."""
        return self.rows(0, self.shape[0])

    def rows(self, first: int, last: int) -> Tensor:
        """Return the rows from `first` to `last` (exclusive) of the projection."""
        pieces = []
        while first < last:
            number, row = divmod(first, self.count)
            size = min(self.count - row, last - first)
            start = number * self.group + self.start + row
            pieces.append(rows_of(self.fused, start, start + size))
            first += size
        return torch.cat(pieces)


def rows_of(tensor: FileTensor | UnpackedRows | Tensor, first: int, last: int) -> Tensor:
    """Return the rows from `first` to `last` (exclusive) of a tensor in a file or in memory."""
    return tensor[first:last] if isinstance(tensor, Tensor) else tensor.rows(first, last)
