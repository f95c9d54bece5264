"""Weights of linear layers that are quantized in their file, and dequantized when their rows are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.weights.file_tensors import FileTensor

Part = FileTensor | Tensor
Parts = Mapping[str, Part]
"""Short name of a stored tensor of a layer (weight, scale, ...) -> the tensor."""
SCALE_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class BadWeightError(Exception):
    """A layer's stored tensors contradict each other or the format; the message says how."""


class Format(Protocol):
    """How a tool stores quantized linear layers: the names of their tensors, and how to dequantize them."""

    @property
    def method(self) -> str:
        """Return the name of the tool's method, such as gptq."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Return endings of tensor names; a layer is quantized if it has a tensor with one of them."""

    @property
    def suffixes(self) -> Mapping[str, str]:
        """Return ending of a layer's tensor name in the file -> short name of the tensor in `Parts`."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Return the endings of the names of tensors that no weight depends on."""

    @property
    def reads_rows(self) -> bool:
        """Return whether `rows` reads only the rows asked for; if not, it reads all parts at each call."""

    def shape(self, parts: Parts) -> tuple[int, int]:
        """Return the shape (out, in) of the weight, after checking the shapes and dtypes of its parts.

        Raises:
            BadWeightError: A part is missing or has another shape or dtype.
        """

    def rows(self, parts: Parts, first: int, last: int) -> Tensor:
        """Return the rows from `first` to `last` (exclusive) of the weight, in float32.

        Raises:
            BadWeightError: Values of a part are impossible.
        """


@dataclass(frozen=True, kw_only=True)
class UnpackedRows:
    """Weight (out, in) of a linear layer that is quantized in its file; each access reads it as float32."""

    name: str
    """File or folder, and name of the layer, for messages."""
    parts: Parts
    """The tensors in the file that the quantized weight consists of."""
    format: Format
    shape: tuple[int, int]
    dtype: torch.dtype = torch.float32
    """Of the rows that are read."""

    @property
    def reads_rows(self) -> bool:
        """Return whether `rows` reads only the rows asked for."""
        return self.format.reads_rows

    def __getitem__(self, index: Any, /) -> Tensor:
        """Read and dequantize the entire weight; the only index is `...`."""
        return self.rows(0, self.shape[0])

    def rows(self, first: int, last: int) -> Tensor:
        """Read and dequantize the rows from `first` to `last` (exclusive).

        Raises:
            CheckpointError: A stored tensor has impossible values.
        """
        try:
            return self.format.rows(self.parts, first, last)
        except BadWeightError as error:
            raise CheckpointError(f"{self.name}: {error}") from error


def needed(parts: Parts, name: str, dtypes: tuple[torch.dtype, ...], num_dimensions: int) -> tuple[int, ...]:
    """Return the shape of the part `name`, which must be present in one of `dtypes`.

    Raises:
        BadWeightError: The part is missing, or has another dtype or number of dimensions.
    """
    part = parts.get(name)
    if part is None:
        raise BadWeightError(f"the layer has no {name}")
    if part.dtype not in dtypes or len(part.shape) != num_dimensions:
        dtype = str(part.dtype).removeprefix("torch.")
        raise BadWeightError(f"{name} is {dtype} of shape {tuple(part.shape)}, which the format doesn't have")
    return tuple(part.shape)


def check_shape(parts: Parts, name: str, expected: tuple[int, ...]) -> None:
    """Check the shape of the part `name`, which must be present.

    Raises:
        BadWeightError: The shape isn't `expected`.
    """
    if (shape := tuple(parts[name].shape)) != expected:
        raise BadWeightError(f"{name} has the shape {shape}, not {expected}")


def integers(words: Tensor, bits: int, dim: int) -> Tensor:
    """Split int32 words into unsigned integers of `bits` bits, lowest bits first, along dimension `dim`.

    Returns:
        Uint8 of the shape of `words`, with 32 / bits times as many entries in `dim`.
    """
    in_order = words.movedim(dim, -1).clone(memory_format=torch.contiguous_format)
    packed = in_order.view(torch.uint8)  # little-endian bytes
    values = packed if bits == 8 else torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
    return values.movedim(-1, dim)
