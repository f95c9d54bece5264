"""Rows of a weight that a model divides by their norms, read some at a time."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from workbench.weights.file_tensors import FileTensor, reads_rows, rows_of
from workbench.weights.unpacking.unpacked_rows import UnpackedRows


@dataclass(frozen=True)
class NormalizedRows:
    """Matrix whose rows are divided by their L2 norms when they are read, in float32; zero rows stay zero."""

    stored: FileTensor | UnpackedRows | Tensor
    """The matrix before the division."""
    dtype: torch.dtype = torch.float32
    """Of the rows that are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the matrix' shape."""
        return tuple(self.stored.shape)

    @property
    def reads_rows(self) -> bool:
        """Return whether `rows` reads only the rows asked for."""
        return reads_rows(self.stored)

    def __getitem__(self, index: Any, /) -> Tensor:
        """Read the entire normalized matrix; the only index is `...`."""
        return self.rows(0, self.shape[0])

    def rows(self, first: int, last: int) -> Tensor:
        """Read the normalized rows from `first` to `last` (exclusive)."""
        return normalize(rows_of(self.stored, first, last).float())
