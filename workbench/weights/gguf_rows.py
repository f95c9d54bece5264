"""Tensors of GGUF files, read and dequantized to float32 some rows at a time; the file is not mapped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import CheckpointError


@dataclass(frozen=True)
class GgufRows:
    """Tensor of a GGUF file; each access reads it anew and dequantizes it to float32 on the CPU.

    An access raises CheckpointError if the file is truncated.
    """

    file: Path
    name: str
    """Name in the file."""
    shape: tuple[int, ...]
    """In torch's order: the rows are the first dimension."""
    start: int
    """Position of its first byte in the file."""
    num_bytes: int
    """Size in the file."""
    quantization: int
    """Value of GGMLQuantizationType."""
    num_heads: int = 0
    """Number of heads whose rows llama.cpp interleaves; 0: the rows are not interleaved."""
    dtype: torch.dtype = torch.float32
    """Of the values that are read."""

    @property
    def reads_rows(self) -> bool:
        """Return whether `rows` reads only the rows asked for: not if rows of heads are interleaved."""
        return not self.num_heads

    def __getitem__(self, index: Any, /) -> Tensor:
        """Read the entire tensor, with rows in transformers' order; the only index is `...`."""
        values = self._read(0, self.shape[0])
        if not self.num_heads:
            return values
        # llama.cpp rotates neighbouring pairs, transformers halves: rows are permuted back to (2, D/2).
        return values.view(self.num_heads, -1, 2, *self.shape[1:]).transpose(1, 2).reshape(self.shape)

    def rows(self, first: int, last: int) -> Tensor:
        """Read the rows from `first` to `last` (exclusive) in transformers' order."""
        return self[...][first:last] if self.num_heads else self._read(first, last)

    def _read(self, first: int, last: int) -> Tensor:
        """Dequantize rows in the file's order, in which rows of heads may be interleaved.

        Raises:
            CheckpointError: The file ends before the rows do.
        """
        from gguf import GGMLQuantizationType, dequantize  # only where a base is a GGUF file

        row_bytes = self.num_bytes // self.shape[0]
        with self.file.open("rb") as file:
            file.seek(self.start + first * row_bytes)
            data = file.read((last - first) * row_bytes)
        if len(data) < (last - first) * row_bytes:
            raise CheckpointError(f"{self.file}: ends within {self.name} (truncated)")
        kind = GGMLQuantizationType(self.quantization)
        plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
        count = last - first
        if kind in plain:
            values = np.frombuffer(data, plain[kind]).astype(np.float32)
        else:
            values = dequantize(np.frombuffer(data, np.uint8).reshape(count, row_bytes), kind)
        return torch.from_numpy(values.copy()).view(count, *self.shape[1:])
