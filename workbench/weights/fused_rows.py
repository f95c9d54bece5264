"""Projections (queries, keys, values) that a file stores as rows of one tensor; each reads only its own."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.weights.file_tensors import FileTensor, reads_rows, rows_of
from workbench.weights.unpacking.unpacked_rows import UnpackedRows


@dataclass(frozen=True, kw_only=True)
class FusedRows:
    """One projection (queries, keys or values) in a fused tensor, whose rows consist of groups of equal size.

    Each group contains `count` rows of the projection, from row `start` of the group on.
    """

    fused: FileTensor | UnpackedRows | Tensor
    """The tensor with all projections."""
    group: int
    """Number of rows in a group, of all projections."""
    start: int
    """Index, within a group, of the projection's first row."""
    count: int
    """Number of the projection's rows in a group."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the projection."""
        return (self.fused.shape[0] // self.group * self.count, *self.fused.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Return the fused tensor's dtype."""
        return self.fused.dtype

    @property
    def reads_rows(self) -> bool:
        """Return whether `rows` reads only the rows asked for."""
        return reads_rows(self.fused)

    def __getitem__(self, index: Any, /) -> Tensor:
        """Read the entire projection; the only index is `...`."""
        if reads_rows(self.fused):
            return self.rows(0, self.shape[0])
        groups = self.fused[...].view(-1, self.group, *self.fused.shape[1:])
        return groups[:, self.start : self.start + self.count].flatten(0, 1)

    def rows(self, first: int, last: int) -> Tensor:
        """Read the rows from `first` to `last` (exclusive) of the projection, at least one row."""
        pieces = []
        while first < last:
            number, row = divmod(first, self.count)
            size = min(self.count - row, last - first)
            start = number * self.group + self.start + row
            pieces.append(rows_of(self.fused, start, start + size))
            first += size
        return torch.cat(pieces)
