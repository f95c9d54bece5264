"""Compares a weight of the base with that of the merged model, allowing for rounding."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.models.diagnosis.rounding import rounded, row_blocks, spacing

NOISE_FACTOR = 8.0
"""Allowed sum of squared errors, relative to that of one rounding. Merging twice in bfloat16 gives 5.4, an
int8 base at least 15."""
UPDATE_ERROR = 2**-8
"""Allowed relative error of the update: that of rounding A and B to bfloat16."""


@dataclass(frozen=True)
class WeightPair:
    """Tensor of one name in the base and in the merged model, of the same shape."""

    base: Tensor
    merged: Tensor
    dtype: torch.dtype
    """Coarsest dtype that represents the merged tensor, to which predictions of it are rounded."""
    noise: float
    """Expected sum of squared errors of rounding the merged tensor to this dtype once."""

    def distance(self, candidate: Tensor) -> tuple[float, float]:
        """Return the distance of the merged tensor from `candidate`, a prediction of it, rounded to `dtype`.

        The first number is the sum of squared differences, the second the share of equal numbers.
        """
        squares, equal = 0.0, 0
        for rows in row_blocks(self.merged):
            merged, expected = self.merged[rows].float(), rounded(candidate[rows].float(), self.dtype)
            squares += float((merged - expected).double().square().sum())
            equal += int((merged == expected).sum())
        return squares, equal / max(1, self.merged.numel())

    def projection(self, candidate: Tensor, update_of: Tensor) -> float:
        """Return <candidate - base, D> / <D, D> with D = `update_of` - base, after rounding the candidate.

        About 1 if the candidate is `update_of`; 0 if it is the base, or if D is zero.
        """
        above = below = 0.0
        for rows in row_blocks(self.merged):
            base = self.base[rows].float()
            update = (update_of[rows] - base).double()
            change = rounded(candidate[rows].float(), self.dtype) - base
            above += float((change.double() * update).sum())
            below += float(update.square().sum())
        return above / below if below else 0.0

    def size_of(self, candidate: Tensor) -> float:
        """Return the sum of squares of `candidate` - base."""
        return sum(
            float((candidate[rows].float() - self.base[rows].float()).double().square().sum())
            for rows in row_blocks(self.merged)
        )

    def allows(self, squares: float, update_size: float) -> bool:
        """Return whether rounding explains `squares`, the summed squared differences of merged and predicted.

        Also allowed is a small share of `update_size`, the update's sum of squares.
        """
        return squares <= NOISE_FACTOR * self.noise + UPDATE_ERROR**2 * update_size

    def near_share(self, candidate: Tensor, allowed: float) -> float:
        """Return the share of the merged numbers that are close to those of `candidate`.

        Close: at most two spacings of the merged dtype plus `allowed` apart.
        """
        near = 0
        for rows in row_blocks(self.merged):
            merged = self.merged[rows].float()
            near += int(((merged - candidate[rows]).abs() <= 2 * spacing(merged, self.dtype) + allowed).sum())
        return near / max(1, self.merged.numel())
