"""Integers or 8-bit floats with scales: the formats of compressed-tensors, and the FP8 of DeepSeek and Qwen.

Source: github.com/vllm-project/compressed-tensors (compressors, quantization/lifecycle/forward.py), and
transformers' integrations/finegrained_fp8.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from workbench.weights.file_tensors import rows_of
from workbench.weights.unpacking.unpacked_rows import (
    SCALE_DTYPES,
    BadWeightError,
    Parts,
    check_shape,
    integers,
    needed,
)

POWERS_OF_TWO = torch.float8_e8m0fnu
"""Dtype of the scales of FP8 with `scale_fmt: ue8m0`."""


@dataclass(frozen=True, kw_only=True)
class Scales:
    """Size of the blocks of a weight (out, in) whose values share a scale."""

    rows: int | None
    """Number of rows of a block; None: all."""
    columns: int | None
    """Number of columns of a block; None: all."""

    def check(self, parts: Parts, name: str, shape: tuple[int, int]) -> None:
        """Check that the part `name` has a value for each block of a weight of this `shape`.

        Raises:
            BadWeightError: The part has another shape.
        """
        num_blocks = tuple(
            1 if size is None else -(-length // size)
            for size, length in zip((self.rows, self.columns), shape, strict=True)
        )
        accepted: set[tuple[int, ...]] = {num_blocks}
        if num_blocks[1] == 1:
            accepted |= {num_blocks[:1], () if num_blocks[0] == 1 else num_blocks}
        if (stored := tuple(parts[name].shape)) not in accepted:
            raise BadWeightError(f"{name} has the shape {stored}, not {num_blocks}")

    def expanded(self, parts: Parts, name: str, first: int, last: int, groups: Tensor) -> Tensor:
        """Return the float32 scales of some rows, (last - first, in); (1, in) if all rows share their scales.

        Args:
            parts: Tensors of the layer.
            name: Name of the part with the scales, or with zero points in the shape of scales.
            first: Index of the first row.
            last: Index of the row after the last.
            groups: Index of the block of each column, from `groups`.
        """
        part = parts[name]
        if self.rows is None:
            return part[...].float().view(1, -1)[:, groups]
        begin = first // self.rows
        blocks = rows_of(part, begin, -(-last // self.rows)).float()
        numbers = torch.arange(first, last) // self.rows - begin
        return blocks.view(len(blocks), -1)[numbers][:, groups]

    def groups(self, columns: int) -> Tensor:
        """Return the index of the block of each of `columns` columns: (columns,), int64."""
        return torch.arange(columns) // (columns if self.columns is None else self.columns)


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Format with weights (out, in) in 8 bits, one in a byte, and scales; zero points are optional."""

    method: str
    scales: Scales
    dtype: torch.dtype
    """Of the stored weights: float8_e4m3fn or int8."""
    dropped: tuple[str, ...] = ()
    markers: ClassVar[tuple[str, ...]] = (".weight_scale", ".weight_scale_inv")
    suffixes: ClassVar[dict[str, str]] = {
        ".weight": "weight",
        ".weight_scale": "scale",
        ".weight_scale_inv": "scale",  # it multiplies, too
        ".weight_zero_point": "zero_point",
    }
    reads_rows: ClassVar[bool] = True

    def shape(self, parts: Parts) -> tuple[int, int]:
        """Return the shape (out, in) of the weight; BadWeightError if its parts don't fit together."""
        outputs, inputs = needed(parts, "weight", (self.dtype,), 2)
        for name in ("scale", "zero_point"):
            if name in parts:
                self.scales.check(parts, name, (outputs, inputs))
        needed(parts, "scale", (*SCALE_DTYPES, POWERS_OF_TWO), len(parts["scale"].shape))
        return outputs, inputs

    def rows(self, parts: Parts, first: int, last: int) -> Tensor:
        """Return the rows from `first` to `last` (exclusive) of the weight, in float32."""
        values = rows_of(parts["weight"], first, last).float()
        groups = self.scales.groups(values.shape[1])
        if "zero_point" in parts:
            values -= self.scales.expanded(parts, "zero_point", first, last, groups)
        return values * self.scales.expanded(parts, "scale", first, last, groups)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Format `pack-quantized` of compressed-tensors: integers of 4 or 8 bits packed along the inputs."""

    bits: int
    scales: Scales
    method: ClassVar[str] = "compressed-tensors"
    markers: ClassVar[tuple[str, ...]] = (".weight_packed",)
    suffixes: ClassVar[dict[str, str]] = {
        ".weight_packed": "packed",
        ".weight_shape": "shape",
        ".weight_scale": "scale",
        ".weight_zero_point": "zero_point",
        ".weight_g_idx": "g_idx",
    }
    dropped: tuple[str, ...] = ()
    reads_rows: ClassVar[bool] = True

    def shape(self, parts: Parts) -> tuple[int, int]:
        """Return the shape (out, in) of the weight; BadWeightError if its parts don't fit together."""
        per_word = 32 // self.bits
        rows, words = needed(parts, "packed", (torch.int32,), 2)
        needed(parts, "shape", (torch.int64, torch.int32), 1)
        outputs, inputs = (*parts["shape"][...].tolist(), 0, 0)[:2]
        if rows != outputs or words != -(-inputs // per_word):
            raise BadWeightError(f"weight_packed has the shape {(rows, words)} for {outputs} x {inputs}")
        needed(parts, "scale", SCALE_DTYPES, len(parts["scale"].shape) if "scale" in parts else 2)
        self.scales.check(parts, "scale", (outputs, inputs))
        if "zero_point" in parts:
            columns = self.scales.groups(inputs)[-1].item() + 1
            needed(parts, "zero_point", (torch.int32,), 2)
            check_shape(parts, "zero_point", (-(-outputs // per_word), int(columns)))
        if "g_idx" in parts:
            needed(parts, "g_idx", (torch.int32, torch.int64), 1)
            check_shape(parts, "g_idx", (inputs,))
        return outputs, inputs

    def rows(self, parts: Parts, first: int, last: int) -> Tensor:
        """Return the rows from `first` to `last` (exclusive) of the weight, in float32.

        Raises:
            BadWeightError: g_idx names a group that has no scales.
        """
        inputs = int(parts["shape"][...][1])
        values = integers(rows_of(parts["packed"], first, last), self.bits, 1)[:, :inputs].float()
        groups = self._groups(parts, inputs)
        if "zero_point" in parts:
            values -= self._zeros(parts, first, last)[:, groups]
        else:
            values -= 2 ** (self.bits - 1)
        return values * self.scales.expanded(parts, "scale", first, last, groups)

    def _zeros(self, parts: Parts, first: int, last: int) -> Tensor:
        """Return zero points (last - first, groups), with the offset that the values have, too."""
        per_word = 32 // self.bits
        begin = first // per_word
        words = rows_of(parts["zero_point"], begin, -(-last // per_word))
        return integers(words, self.bits, 0)[first - begin * per_word : last - begin * per_word].float()

    def _groups(self, parts: Parts, inputs: int) -> Tensor:
        """Return the group of each input; g_idx of -1 stands for consecutive inputs."""
        in_order = self.scales.groups(inputs)
        groups = parts["g_idx"][...].long() if "g_idx" in parts else in_order
        if bool((groups == -1).all()):
            return in_order
        if int(groups.min()) < 0 or int(groups.max()) > int(in_order[-1]):
            raise BadWeightError("weight_g_idx names groups that weight_scale doesn't have")
        return groups
