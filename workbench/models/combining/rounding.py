"""Measures how much of an intended change of weights is left after rounding."""

import math
from dataclasses import dataclass

from torch import Tensor

BLOCK = 2**22
"""Weights that are compared at a time in float64."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """Sums over weights in float64: D is the intended change, A the one that is left; sums add up."""

    intended: float = 0.0
    """<D, D>"""
    product: float = 0.0
    """<A, D>"""
    squared_error: float = 0.0
    """<A - D, A - D>"""

    def __add__(self, other: "Rounding") -> "Rounding":
        """Return the sums over both sets of weights."""
        return Rounding(
            intended=self.intended + other.intended,
            product=self.product + other.product,
            squared_error=self.squared_error + other.squared_error,
        )

    @property
    def kept(self) -> float:
        """Return <A, D> / <D, D>, the share of the change that is left."""
        return self.product / self.intended

    @property
    def error(self) -> float:
        """Return |A - D| / |D|, the error of rounding relative to the change."""
        return math.sqrt(self.squared_error / self.intended)


def rounding_of(before: Tensor, exact: Tensor, rounded: Tensor) -> Rounding:
    """Compare a weight before a merge, after it, and as it is saved."""
    total = Rounding()
    flat = [tensor.reshape(-1) for tensor in (before, exact, rounded)]
    for start in range(0, len(flat[0]), BLOCK):
        old, new, saved = (tensor[start : start + BLOCK].double() for tensor in flat)
        intended, left = new - old, saved - old
        total += Rounding(
            intended=float(intended @ intended),
            product=float(left @ intended),
            squared_error=float((left - intended).square().sum()),
        )
    return total
