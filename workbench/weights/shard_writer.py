"""Writes a model's weights tensor by tensor into safetensors files of limited size."""

import json
import math
from collections.abc import Iterable, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.files import write_json
from workbench.weights.file_tensors import BLOCK, NAMES, FileTensor

INDEX = "model.safetensors.index.json"
"""File that maps tensors to weight files, in a folder with several weight files."""
MAX_SHARD_BYTES = 4 * 10**9
"""Largest weight file of a merged model; `recipe=export` writes other sizes."""
Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Name of a tensor -> its dtype and shape."""


class ShardWriter:
    """Context manager that writes tensors into safetensors files, in the order of `names`.

    Each tensor is read back and compared. Leaving the context writes the index of several files.
    """

    def __init__(self, folder: Path, layout: Layout, max_shard_bytes: int) -> None:
        """Divide the tensors into files, which get transformers' names; nothing is written yet.

        Args:
            folder: Existing folder.
            layout: Name -> dtype and shape of all tensors.
            max_shard_bytes: Largest size of a file's tensors; a larger tensor has a file of its own.
        """
        self.folder, self.layout = folder, dict(layout)
        self.shards = _shards(self.layout, max_shard_bytes)
        self._left = [(index, name) for index, names in enumerate(self.shards) for name in names]
        self._left.reverse()
        self._file: FileIO | None = None
        self._starts: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """Return the names of all tensors, in the order in which they must be written."""
        return [name for names in self.shards for name in names]

    def __enter__(self) -> "ShardWriter":
        """Return the writer; `write`, `write_rows` and `copy` create the files."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the last file; unless the block failed, write the index, if there are several files.

        Raises:
            ValueError: The block ended before all tensors were written.
        """
        if self._file is not None:
            self._file.close()
            self._file = None
        if error is None:
            self._finish()

    def write(self, name: str, tensor: Tensor) -> FileTensor:
        """Write the next tensor of `names`, and return it as a FileTensor, which can read it again.

        Raises:
            ValueError: `name` isn't the next one, or the tensor has another dtype or size than in the layout.
            CheckpointError: The file reads back as other bytes.
        """
        return self.write_rows(name, [tensor] if tensor.dim() else [tensor.view(1)])

    def write_rows(self, name: str, blocks: Iterable[Tensor]) -> FileTensor:
        """Write the next tensor of `names` from consecutive blocks of its rows, which are drawn one by one.

        Returns:
            The tensor as a FileTensor, which can read it again.

        Raises:
            ValueError: `name` isn't the next one, or the blocks have another dtype or total size.
            CheckpointError: The file reads back as other bytes.
        """
        return self._write(name, (_bytes(block, name, self.layout[name][0]) for block in blocks))

    def copy(self, name: str, source: FileTensor) -> FileTensor:
        """Write the next tensor of `names` by copying the bytes of `source`, one block in memory at a time.

        Returns:
            The copy as a FileTensor, which can read it again.

        Raises:
            ValueError: `name` isn't the next one, or `source` has another dtype or shape than in the layout.
            CheckpointError: `source` is truncated, or the copy reads back as other bytes.
        """
        if (source.dtype, source.shape) != self.layout.get(name):
            raise ValueError(f"{name}: {source.dtype}, {source.shape} is not as in the layout")
        return self._write(name, source.blocks())

    def _write(self, name: str, blocks: Iterable[bytes | memoryview]) -> FileTensor:
        index, expected = self._left.pop() if self._left else (-1, "")
        if name != expected:
            raise ValueError(f"{name}: the next tensor is {expected or 'none'}")
        if name == self.shards[index][0]:
            self._open(index)
        assert self._file is not None
        dtype, shape = self.layout[name]
        size = sum(write_checked(self._file, block, f"{self.path(index)}: {name}") for block in blocks)
        if size != num_bytes(dtype, shape):
            raise ValueError(f"{name}: {size} bytes, and {num_bytes(dtype, shape)} in the layout")
        return FileTensor(self.path(index), name, dtype, shape, self._starts[name])

    def path(self, index: int) -> Path:
        """Return the path of file number `index`, counted from 0 (names count from 1)."""
        count = len(self.shards)
        name = f"model-{index + 1:05}-of-{count:05}.safetensors" if count > 1 else "model.safetensors"
        return self.folder / name

    def _open(self, index: int) -> None:
        """Close the open file, if any, and write the header of file number `index`."""
        if self._file is not None:
            self._file.close()
        header, position = _header({name: self.layout[name] for name in self.shards[index]})
        self._file = self.path(index).open("w+b", buffering=0)
        write_checked(self._file, header, f"{self.path(index)}: the header")
        self._starts |= {name: len(header) + offset for name, offset in position.items()}

    def _finish(self) -> None:
        """Write the index, if there are several files.

        Raises:
            ValueError: A tensor of the layout wasn't written.
        """
        if self._left:
            raise ValueError(f"{self._left[-1][1]}: was not written")
        if len(self.shards) < 2:
            return
        files = {name: self.path(index).name for index, names in enumerate(self.shards) for name in names}
        metadata = {"total_size": sum(num_bytes(*entry) for entry in self.layout.values())}
        write_json(self.folder / INDEX, {"metadata": metadata, "weight_map": dict(sorted(files.items()))})


def write_checked(file: FileIO, block: bytes | memoryview, what: str) -> int:
    """Write `block` at the position of an unbuffered file, and read it back; return its size in bytes.

    The file must be open for reading and writing; its position is then at the end of the block.

    Raises:
        CheckpointError: The file reads back as other bytes; the message begins with `what`.
    """
    left = memoryview(block)
    while left:  # piece by piece, since the system reads less than 2 GiB at a time
        start, piece = file.tell(), left[:BLOCK]
        size = file.write(piece)
        file.seek(start)
        read_back = bytearray(size)  # compared as memory; Python compares a memoryview value by value
        if file.readinto(read_back) != size or read_back != piece[:size]:
            raise CheckpointError(f"{what} reads back as something else than was written")
        left = left[size:]
    return len(block)


def _bytes(block: Tensor, name: str, dtype: torch.dtype) -> memoryview:
    """Return the bytes of a tensor, without a copy if it is contiguous and on the CPU."""
    if block.dtype != dtype:
        raise ValueError(f"{name}: {block.dtype}, and {dtype} in the layout")
    return block.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def num_bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    """Return the number of bytes of a tensor with this dtype and shape."""
    return math.prod(shape) * dtype.itemsize


def _shards(layout: Layout, limit: int) -> list[list[str]]:
    """Divide the tensors into files of at most `limit` bytes; return the names for each file.

    In a file, the widest elements come first. Tensors follow each other without gaps, and each begins at a
    multiple of its elements' size. A tensor larger than `limit` has a file of its own.
    """
    shards: list[list[str]] = [[]]
    size = 0
    for name, entry in layout.items():
        if shards[-1] and size + num_bytes(*entry) > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += num_bytes(*entry)
    return [sorted(names, key=lambda name: -layout[name][0].itemsize) for names in shards]


def _header(layout: Layout) -> tuple[bytes, dict[str, int]]:
    """Return a safetensors header, padded to a multiple of 8 bytes, and each tensor's offset after it."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets, end = {}, 0
    for name, (dtype, shape) in layout.items():
        offsets[name], end = end, end + num_bytes(dtype, shape)
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [offsets[name], end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offsets
