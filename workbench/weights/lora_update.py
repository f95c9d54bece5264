"""Applies an adapter's update to a base weight, block of rows by block of rows: LoRA, DoRA or replacement."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Changed(NamedTuple):
    """Rows of a weight after an adapter's update, and the update."""

    rows: Tensor
    delta: Tensor
    """`rows` less the base's rows."""


class Update(Protocol):
    """What an adapter does to one weight of its base."""

    def changed(self, rows: Tensor, first: int = 0) -> Changed:
        """Return the updated rows and the update, for a block of rows of the base weight.

        Args:
            rows: The block, in the dtype to compute in, which the result has, too; it isn't changed.
            first: Index of the block's first row in the weight.
        """


@dataclass(frozen=True, kw_only=True)
class LoraUpdate:
    """LoRA's update `scale * B @ A` of a weight (out, in) or, with a magnitude, DoRA's.

    Sources: LoRA, arXiv:2106.09685, section 4.1; DoRA, arXiv:2402.09353, equation 5.
    """

    down: Tensor
    """A (rank, in)."""
    up: Tensor
    """B (out, rank)."""
    scale: float
    magnitude: Tensor | None = None
    """DoRA: norm of each row of the merged weight (out,); only of a weight (out, in)."""
    is_transposed: bool = False
    """Whether the weight is (in, out): that of an embedding, or of GPT-2's layers."""

    def changed(self, rows: Tensor, first: int = 0) -> Changed:
        """Return the updated rows and the update, for the block `rows` whose first row has index `first`.

        The result has the dtype of `rows`, which isn't changed.
        """
        left, right = (self.down.t(), self.up.t()) if self.is_transposed else (self.up, self.down)
        last = first + len(rows)
        delta = (left[first:last].to(rows.dtype) @ right.to(rows.dtype)).mul_(self.scale)
        total = rows + delta
        if self.magnitude is None:
            return Changed(total, delta)
        norms = torch.linalg.norm(total, dim=1)
        total *= (self.magnitude[first:last].to(rows.dtype) / norms)[:, None]
        return Changed(total, total - rows)


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """Replacement of a weight, or of some of its rows, by trained values."""

    values: Tensor
    """The trained weight, or only its trained rows, in the order of `numbers`."""
    numbers: tuple[int, ...] | None = None
    """Indices of the trained rows in the weight; None: all rows are trained."""

    def changed(self, rows: Tensor, first: int = 0) -> Changed:
        """Return the block `rows` with its trained rows replaced, and the difference.

        `first` is the index of the block's first row in the weight. The result has the dtype of `rows`, which
        isn't changed.
        """
        last = first + len(rows)
        if self.numbers is None:
            total = self.values[first:last].to(rows.dtype)
        else:
            total = rows.clone()
            for number, values in zip(self.numbers, self.values, strict=True):
                if first <= number < last:
                    total[number - first] = values.to(rows.dtype)
        return Changed(total, total - rows)
