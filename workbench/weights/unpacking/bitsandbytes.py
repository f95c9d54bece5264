"""Weights that bitsandbytes saved in 4 or 8 bits.

Source: bitsandbytes, functional.py (QuantState.as_dict, dequantize_4bit) and nn/modules.py (Linear8bitLt).
"""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from workbench.weights.file_tensors import rows_of
from workbench.weights.unpacking.unpacked_rows import (
    BadWeightError,
    Part,
    Parts,
    check_shape,
    needed,
)

STATE = ".weight.quant_state.bitsandbytes__"


@dataclass(frozen=True, kw_only=True)
class FourBit:
    """Format of bitsandbytes' NF4 and FP4: two values a byte, and the largest absolute value of each block.

    These largest values (absmax) may be quantized, too.
    """

    method: ClassVar[str] = "bitsandbytes 4-bit"
    markers: ClassVar[tuple[str, ...]] = (".weight.absmax",)
    suffixes: ClassVar[dict[str, str]] = {
        ".weight": "weight",
        ".weight.absmax": "absmax",
        ".weight.quant_map": "quant_map",
        ".weight.nested_absmax": "nested_absmax",
        ".weight.nested_quant_map": "nested_quant_map",
        f"{STATE}nf4": "nf4",
        f"{STATE}fp4": "fp4",
    }
    dropped: ClassVar[tuple[str, ...]] = ()
    reads_rows: ClassVar[bool] = True

    def shape(self, parts: Parts) -> tuple[int, int]:
        """Return the shape (out, in) of the weight; BadWeightError if its parts don't fit together."""
        state = _state(parts)
        outputs, inputs = state["shape"]
        values, block = outputs * inputs, state["blocksize"]
        weight = parts.get("weight")
        if weight is None or weight.shape[0] * weight.dtype.itemsize != -(-values // 2):
            raise BadWeightError(f"weight doesn't hold the {outputs} x {inputs} values of its quant_state")
        num_blocks = -(-values // block)
        needed(parts, "quant_map", (torch.float32,), 1)
        check_shape(parts, "quant_map", (16,))
        check_shape(parts, "absmax", (num_blocks,))
        if parts["absmax"].dtype == torch.uint8:
            needed(parts, "nested_quant_map", (torch.float32,), 1)
            check_shape(parts, "nested_quant_map", (256,))
            needed(parts, "nested_absmax", (torch.float32,), 1)
            check_shape(parts, "nested_absmax", (-(-num_blocks // state["nested_blocksize"]),))
        else:
            needed(parts, "absmax", (torch.float32,), 1)
        return outputs, inputs

    def rows(self, parts: Parts, first: int, last: int) -> Tensor:
        """Return the rows from `first` to `last` (exclusive) in float32; only their blocks are read.

        Raises:
            BadWeightError: The layer's quant_state is missing or damaged.
        """
        state = _state(parts)
        outputs, inputs = state["shape"]
        size = state["blocksize"]
        start, end = first * inputs // size, -(-last * inputs // size)
        absmax = _absmax(parts, state, start, end)
        item = parts["weight"].dtype.itemsize  # of a block of at least 32 values, a whole number of items
        num_items = parts["weight"].shape[0]
        words = rows_of(parts["weight"], start * size // 2 // item, min(end * size // 2 // item, num_items))
        packed = words.contiguous().view(torch.uint8).view(-1)
        codes = torch.stack((packed >> 4, packed & 15), dim=-1).view(-1)  # high bits first
        values = parts["quant_map"][...][codes.long()]
        values = values * absmax.repeat_interleave(size)[: len(values)]
        begin = first * inputs - start * size
        return values[begin : begin + (last - first) * inputs].view(last - first, inputs)


def _absmax(parts: Parts, state: dict[str, Any], first: int, last: int) -> Tensor:
    """Return the largest values of the blocks from `first` to `last` (exclusive), in float32."""
    stored = rows_of(parts["absmax"], first, last)
    if stored.dtype != torch.uint8:
        return stored
    outer = torch.arange(first, last) // state["nested_blocksize"]
    scales = parts["nested_absmax"][...][outer]
    absmax = parts["nested_quant_map"][...][stored.long()] * scales
    return absmax + float(state["nested_offset"])


def _state(parts: Parts) -> dict[str, Any]:
    """Return a layer's quant_state: its shape (out, in), and the sizes of its blocks.

    Raises:
        BadWeightError: There is none, or a field is missing or impossible.
    """
    part: Part | None = parts.get("nf4", parts.get("fp4"))
    if part is None or part.dtype != torch.uint8:
        raise BadWeightError("the layer has no quant_state of nf4 or fp4")
    try:
        state = json.loads(bytes(part[...].tolist()).decode())
        sizes = [*state["shape"], state["blocksize"], state.get("nested_blocksize", 1)]
        offset = float(state.get("nested_offset", 0))
    except (ValueError, KeyError, TypeError) as error:
        raise BadWeightError("its quant_state is damaged") from error
    if len(sizes) != 4 or not all(type(size) is int and size > 0 for size in sizes) or sizes[2] % 32:
        raise BadWeightError(f"its quant_state has the impossible sizes {sizes}")
    return {**state, "nested_blocksize": sizes[3], "nested_offset": offset}


@dataclass(frozen=True, kw_only=True)
class EightBit:
    """Format of bitsandbytes' LLM.int8: rows of int8 and the largest absolute value of each (SCB)."""

    method: ClassVar[str] = "bitsandbytes int8"
    markers: ClassVar[tuple[str, ...]] = (".SCB",)
    suffixes: ClassVar[dict[str, str]] = {
        ".weight": "weight",
        ".SCB": "SCB",
        ".weight_format": "weight_format",
    }
    dropped: ClassVar[tuple[str, ...]] = ()
    reads_rows: ClassVar[bool] = True

    def shape(self, parts: Parts) -> tuple[int, int]:
        """Return the shape (out, in) of the weight; BadWeightError if its parts don't fit together."""
        outputs, inputs = needed(parts, "weight", (torch.int8,), 2)
        needed(parts, "SCB", (torch.float32,), 1)
        check_shape(parts, "SCB", (outputs,))
        if "weight_format" in parts and bool(parts["weight_format"][...].any()):
            raise BadWeightError("its weight_format isn't rows, of an old bitsandbytes")
        return outputs, inputs

    def rows(self, parts: Parts, first: int, last: int) -> Tensor:
        """Return the rows from `first` to `last` (exclusive) of the weight, in float32."""
        values = rows_of(parts["weight"], first, last).float()
        return values * (rows_of(parts["SCB"], first, last) / 127)[:, None]
