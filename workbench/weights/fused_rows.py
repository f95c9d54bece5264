"""Projections that a file stores as rows of one fused tensor; only their own rows are read."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.weights.file_tensors import FileTensor, reads_rows, rows_of
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

    @property
    def reads_rows(self) -> bool:
        """Return whether some rows can be read without the others."""
        return reads_rows(self.fused)

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return the entire projection; the only index is `...`."""
        if reads_rows(self.fused):
            return self.rows(0, self.shape[0])
        groups = self.fused[...].view(-1, self.group, *self.fused.shape[1:])
        return groups[:, self.start : self.start + self.count].flatten(0, 1)

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
