"""Adds a LoRA or DoRA to a weight, and replaces weights that were trained as a whole; in blocks of rows."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Changed(NamedTuple):
    """Rows of a weight after an adapter's update, and their difference from the rows before."""

    rows: Tensor
    delta: Tensor


class Update(Protocol):
    """Change of one weight by an adapter."""

    def changed(self, rows: Tensor, first: int = 0) -> Changed:
        """Apply the update to `rows`, which are the rows of the weight from number `first` on.

        The result has the dtype of `rows`.
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
        """Apply the update to `rows`, which are the rows of the weight from number `first` on.

        The result has the dtype of `rows`.
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
    """The trained weight, or its trained rows."""
    numbers: tuple[int, ...] | None = None
    """Numbers of the trained rows; None: all."""

    def changed(self, rows: Tensor, first: int = 0) -> Changed:
        """Replace `rows`, the rows of the weight from number `first` on, by trained values, where trained.

        The result has the dtype of `rows`.
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
