"""Weights of AWQ in AutoAWQ's layout for matrix products (version GEMM).

Source: github.com/casper-hansen/AutoAWQ, awq/modules/linear/gemm.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from workbench.weights.unpacking.unpacked_rows import SCALE_DTYPES, Parts, check_shape, integers, needed

PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Position, in a word of 8 integers of 4 bits, of the integer of each of 8 consecutive outputs."""


@dataclass(frozen=True, kw_only=True)
class Awq:
    """Format of AWQ: integers of 4 bits and zero points, both packed along the outputs in AWQ's order."""

    group_size: int
    """Consecutive inputs that share a scale; -1: all of them."""
    method: ClassVar[str] = "awq"
    markers: ClassVar[tuple[str, ...]] = (".qweight",)
    suffixes: ClassVar[dict[str, str]] = {".qweight": "qweight", ".qzeros": "qzeros", ".scales": "scales"}
    dropped: ClassVar[tuple[str, ...]] = ()
    reads_rows: ClassVar[bool] = False

    def shape(self, parts: Parts) -> tuple[int, int]:
        """Return the shape (out, in) of the weight; BadWeightError if its parts don't fit together."""
        inputs, words = needed(parts, "qweight", (torch.int32,), 2)
        needed(parts, "qzeros", (torch.int32,), 2)
        needed(parts, "scales", SCALE_DTYPES, 2)
        num_groups = 1 if self.group_size == -1 else -(-inputs // self.group_size)
        check_shape(parts, "qzeros", (num_groups, words))
        check_shape(parts, "scales", (num_groups, 8 * words))
        return 8 * words, inputs

    def rows(self, parts: Parts, first: int, last: int) -> Tensor:
        """Return the rows from `first` to `last` (exclusive) of the weight, in float32."""
        words = slice(first // 8, -(-last // 8))
        outputs = slice(first - 8 * words.start, last - 8 * words.start)
        values = _in_order(parts["qweight"][...][:, words])[:, outputs]  # (in, rows)
        zeros = _in_order(parts["qzeros"][...][:, words])[:, outputs]
        scales = parts["scales"][...][:, first:last]
        groups = torch.arange(len(values)) // (len(values) if self.group_size == -1 else self.group_size)
        weight = (values.float() - zeros.float()[groups]).mul_(scales.float()[groups])
        return weight.t().contiguous()


def _in_order(words: Tensor) -> Tensor:
    """Split words (R, W) into the integers of consecutive outputs (R, 8 W)."""
    return integers(words, 4, 1).view(len(words), -1, 8)[:, :, list(PLACES)].flatten(1)
