"""Tensors in safetensors files, read one by one into memory of their own; the files are not mapped.

Pages of a mapped file count as memory of the process. Format: https://github.com/huggingface/safetensors.
"""

import hashlib
import json
import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workbench.errors import CheckpointError

log = logging.getLogger("workbench")

Item = TypeVar("Item")

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Name of a dtype in a safetensors file -> torch's dtype."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}
"""torch's dtype -> its name in a safetensors file."""
BLOCK = 2**18
"""Bytes that are copied or hashed at a time: they stay in a core's cache."""


CONVERTED = 2**17
"""Number of values that `FileTensor.read_into` reads at a time when it converts them."""


class StoredRows(Protocol):
    """Tensor in a file, of which a range of rows can be read."""

    @property
    def reads_rows(self) -> bool:
        """Return whether `rows` reads only the rows asked for; if not, each call reads the entire tensor."""

    def rows(self, first: int, last: int) -> Tensor:
        """Read the rows from `first` to `last` (exclusive) of the first dimension into a new tensor."""


def rows_of(tensor: StoredRows | Tensor, first: int, last: int) -> Tensor:
    """Return the rows from `first` to `last` (exclusive), read from the file, or as a view if in memory."""
    return tensor[first:last] if isinstance(tensor, Tensor) else tensor.rows(first, last)


def reads_rows(tensor: StoredRows | Tensor) -> bool:
    """Return whether `rows_of` reads only the rows asked for; True for a tensor in memory."""
    return isinstance(tensor, Tensor) or tensor.reads_rows


@dataclass(frozen=True)
class FileTensor:
    """Tensor in a safetensors file; each access reads it anew, into a new tensor on the CPU.

    An access raises CheckpointError if the file is truncated.
    """

    file: Path
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """Position of its first byte in the file."""
    reads_rows: ClassVar[bool] = True

    @property
    def num_bytes(self) -> int:
        """Return the tensor's size in the file, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, index: Any, /) -> Tensor:
        """Read the entire tensor; the only index is `...`."""
        return self._read(self.start, self.shape)

    def rows(self, first: int, last: int) -> Tensor:
        """Read the rows from `first` to `last` (exclusive) of a tensor that has rows: not of a scalar."""
        row_bytes = self.num_bytes // self.shape[0]
        return self._read(self.start + first * row_bytes, (last - first, *self.shape[1:]))

    def read_into(self, values: Tensor) -> None:
        """Read the tensor into `values`, and convert it to the dtype of `values`.

        `values` is contiguous, on the CPU, and has as many elements as the tensor.
        """
        flat = values.view(-1)
        if values.dtype == self.dtype:
            self._fill(flat, self.start)
            return
        buffer = torch.empty(min(CONVERTED, len(flat)), dtype=self.dtype)
        for first in range(0, len(flat), CONVERTED):
            stored = buffer[: len(flat) - first]
            self._fill(stored, self.start + first * self.dtype.itemsize)
            flat[first : first + CONVERTED] = stored

    def blocks(self) -> Iterator[bytes]:
        """Yield the tensor's bytes in the order of the file, at most `BLOCK` of them at a time.

        Raises:
            CheckpointError: The file ends before the tensor does.
        """
        left = self.num_bytes
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start)
            while left:
                block = file.read(min(BLOCK, left))
                if not block:
                    raise CheckpointError(f"{self.file}: ends within {self.name} (truncated)")
                left -= len(block)
                yield block

    def _read(self, start: int, shape: tuple[int, ...]) -> Tensor:
        """Read a tensor of this `shape` that starts at byte `start` of the file."""
        values = torch.empty(shape, dtype=self.dtype)
        self._fill(values.view(-1), start)
        return values

    def _fill(self, flat: Tensor, start: int) -> None:
        """Read N values from byte `start` of the file on into `flat` (N,), which has the stored dtype.

        Raises:
            CheckpointError: The file ends before the tensor does.
        """
        if not len(flat):
            return
        buffer = flat.view(torch.uint8).numpy().data
        with self.file.open("rb", buffering=0) as file:
            file.seek(start)
            filled = 0
            while filled < len(buffer):
                count = file.readinto(buffer[filled:])
                if not count:
                    raise CheckpointError(f"{self.file}: ends within {self.name} (truncated)")
                filled += count


def file_tensors(files: Sequence[Path]) -> dict[str, FileTensor]:
    """Return the tensors of safetensors files by name, in the order of the files; only headers are read.

    Raises:
        CheckpointError: A file is missing, damaged or has a dtype that isn't in DTYPES, or two files have a
            tensor of the same name.
    """
    tensors: dict[str, FileTensor] = {}
    for file in files:
        for name, tensor in _header(file).items():
            if name in tensors:
                raise CheckpointError(f"{file}: {name} is also in {tensors[name].file.name}")
            tensors[name] = tensor
    return tensors


def tensors_fingerprint(tensors: Mapping[str, FileTensor]) -> str:
    """Return the SHA-256 (hexadecimal) of the tensors' names, dtypes, shapes and bytes.

    It doesn't depend on how the tensors are divided into files. All tensors are read; the log warns of each
    that has NaN or infinite values.
    """
    digest = hashlib.sha256()
    damaged: list[str] = []
    for name, block, is_finite in read_ahead(_checked_blocks(tensors)):
        digest.update(block)
        if not is_finite and name not in damaged[-1:]:
            damaged.append(name)
    for name in damaged:
        log.warning(
            "%s: %s has NaN or infinite values (damaged, or its training diverged)", tensors[name].file, name
        )
    return digest.hexdigest()


def _checked_blocks(tensors: Mapping[str, FileTensor]) -> Iterator[tuple[str, bytes, bool]]:
    """Yield (name, bytes to hash, whether all values are finite) for the parts of all tensors, by name."""
    for name in sorted(tensors):
        tensor = tensors[name]
        yield name, f"{name} {NAMES[tensor.dtype]} {list(tensor.shape)}\n".encode(), True
        for block in tensor.blocks():
            yield name, block, has_finite_values(block, tensor.dtype)


def read_ahead(items: Iterator[Item], most: int = 8) -> Iterator[Item]:
    """Yield the items of an iterator, of which another thread makes up to `most` in advance.

    An exception of the iterator is raised where its item would come.
    """
    end = object()
    with ThreadPoolExecutor(1) as thread:
        pending = deque(thread.submit(next, items, end) for _ in range(most))
        while (item := pending.popleft().result()) is not end:
            pending.append(thread.submit(next, items, end))
            yield cast(Item, item)


def has_finite_values(block: bytes, dtype: torch.dtype) -> bool:
    """Return whether the values in `block`, the bytes of at least one value of `dtype`, are all finite.

    True without a check for dtypes other than floats of 16 to 64 bits.
    """
    if dtype not in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        return True
    values = torch.frombuffer(bytearray(block), dtype=dtype)
    return all(map(math.isfinite, values.aminmax()))  # of NaN both are NaN


def _header(file: Path) -> dict[str, FileTensor]:
    """Read the header of a safetensors file, and return its tensors by name.

    Raises:
        CheckpointError: The file is damaged, or has a dtype that torch doesn't have.
    """
    try:
        with safe_open(file, framework="pt"):  # checks the header against the size of the file
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: truncated or damaged ({error})") from error
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header: dict[str, Any] = json.loads(opened.read(size))
    header.pop("__metadata__", None)
    if unknown := sorted({entry["dtype"] for entry in header.values()} - DTYPES.keys()):
        raise CheckpointError(f"{file}: the dtype {unknown[0]!r} is not supported")
    return {
        name: FileTensor(
            file, name, DTYPES[entry["dtype"]], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }
