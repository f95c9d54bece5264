"""Writes logits to files and reads them block by block: those of a large vocabulary don't fit in memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from safetensors.torch import save_file
from torch import Tensor

from workbench.weights.file_tensors import file_tensors

NAME = "logits"


class LogitFiles(Sequence[Tensor]):
    """Blocks of logits (N, V), each in a file that is read when it is indexed."""

    def __init__(self, files: list[Path]) -> None:
        """Use these files, one for each block, in order."""
        self.files = files

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        """Read the block at `index` from its file; for a slice, return these blocks without reading them."""
        if isinstance(index, slice):
            return LogitFiles(self.files[index])
        return file_tensors([self.files[index]])[NAME][...]


def in_files(folder: Path, name: str, rows: Iterator[Tensor]) -> LogitFiles:
    """Write each block of logits in `rows` to a file of its own, `folder`/`name`-NUMBER.safetensors.

    The result reads a file each time its block is indexed.
    """
    files = []
    for number, block in enumerate(rows):
        files.append(folder / f"{name}-{number:05}.safetensors")
        save_file({NAME: block.contiguous()}, files[-1])
    return LogitFiles(files)
