"""Weights of GPTQ: AutoGPTQ's layout and GPTQModel's second version of it.

Source: github.com/AutoGPTQ/AutoGPTQ and github.com/ModelCloud/GPTQModel (their torch layers).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from workbench.weights.unpacking.unpacked_rows import (
    SCALE_DTYPES,
    BadWeightError,
    Parts,
    check_shape,
    integers,
    needed,
)

ONES = {4: 0x11111111, 8: 0x01010101}
"""Bits of an integer -> int32 word in which each packed integer is 1."""


@dataclass(frozen=True, kw_only=True)
class Gptq:
    """Format of GPTQ: integers packed along the inputs, zero points along the outputs.

    The inputs of a group share scales and zero points; g_idx has the group of each input.
    """

    bits: int
    group_size: int
    """Number of inputs that share a scale; -1: all of them."""
    zeros_plus_one: bool
    """Whether the file has zero points less 1 (the first version), to which 1 is added."""
    method: ClassVar[str] = "gptq"
    markers: ClassVar[tuple[str, ...]] = (".qweight",)
    suffixes: ClassVar[dict[str, str]] = {
        ".qweight": "qweight",
        ".qzeros": "qzeros",
        ".scales": "scales",
        ".g_idx": "g_idx",
    }
    dropped: ClassVar[tuple[str, ...]] = ()
    reads_rows: ClassVar[bool] = False

    def shape(self, parts: Parts) -> tuple[int, int]:
        """Return the shape (out, in) of the weight; BadWeightError if its parts don't fit together."""
        per_word = 32 // self.bits
        words, outputs = needed(parts, "qweight", (torch.int32,), 2)
        inputs = words * per_word
        needed(parts, "scales", SCALE_DTYPES, 2)
        needed(parts, "qzeros", (torch.int32,), 2)
        group_size = inputs if self.group_size == -1 else self.group_size
        num_groups = -(-inputs // group_size)
        check_shape(parts, "scales", (num_groups, outputs))
        check_shape(parts, "qzeros", (num_groups, -(-outputs // per_word)))
        if "g_idx" in parts:
            needed(parts, "g_idx", (torch.int32, torch.int64), 1)
            check_shape(parts, "g_idx", (inputs,))
        return outputs, inputs

    def rows(self, parts: Parts, first: int, last: int) -> Tensor:
        """Return the rows from `first` to `last` (exclusive) of the weight, in float32.

        Raises:
            BadWeightError: g_idx names a group that doesn't exist.
        """
        words = parts["qweight"][...][:, first:last]
        values = integers(words, self.bits, 0)  # (in, rows)
        zero_words = parts["qzeros"][...]
        if self.zeros_plus_one:
            # GPTQModel subtracts a 1 from each integer of the word at once; so a zero of 0 borrows from the
            # next integer, which only the sum of whole words gives back.
            zero_words = zero_words + ONES[self.bits]
        zeros = integers(zero_words, self.bits, 1)[:, first:last]
        scales = parts["scales"][...][:, first:last]
        groups = self._groups(parts, len(values), len(scales))
        weight = (values.float() - zeros.float()[groups]).mul_(scales.float()[groups])
        return weight.t().contiguous()

    def _groups(self, parts: Parts, inputs: int, num_groups: int) -> Tensor:
        """Return the group of each input (in,), of which early files without act-order have none."""
        in_order = torch.arange(inputs) // (inputs if self.group_size == -1 else self.group_size)
        groups = parts["g_idx"][...].long() if "g_idx" in parts else in_order
        if not bool(groups.any()):
            return in_order
        if int(groups.min()) < 0 or int(groups.max()) >= num_groups:
            raise BadWeightError(f"g_idx names groups outside of the {num_groups} that scales has")
        return groups
