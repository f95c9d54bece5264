"""Measures how much of an intended change of weights is left after rounding."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float32]
BLOCK = 2**16
"""Weights that are compared at a time, in a core's cache."""
SUMMED = 2**10
"""Products that are added in float32; their sums are added in float64."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Sums over the elements of weights: D is the intended change, A the change after rounding.

    Signals of several weights can be added.
    """

    num_weights: int = 0
    num_changed: int = 0
    """Weights that differ after the merge."""
    base_square: float = 0.0
    """Sum of squares of the base's weights."""
    intended_square: float = 0.0
    """<D, D>"""
    arrived_square: float = 0.0
    """<A, A>"""
    product: float = 0.0
    """<A, D>"""
    error_square: float = 0.0
    """<A - D, A - D>"""

    def __add__(self, other: "Signal") -> "Signal":
        """Return the sums over both sets of weights."""
        return Signal(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @property
    def projection(self) -> float:
        """Return <A, D> / <D, D>, the share of the intended change that arrived; NaN if there is none."""
        return self.product / self.intended_square if self.intended_square else math.nan

    @property
    def cosine(self) -> float:
        """Return the cosine of A and D; NaN if one of them is zero."""
        norms = math.sqrt(self.intended_square * self.arrived_square)
        return self.product / norms if norms else math.nan

    @property
    def error(self) -> float:
        """Return |A - D| / |D|; NaN if D is zero."""
        return math.sqrt(self.error_square / self.intended_square) if self.intended_square else math.nan

    @property
    def changed_share(self) -> float:
        """Return the share of the weights that differ after the merge; 0 if there are no weights."""
        return self.num_changed / self.num_weights if self.num_weights else 0.0

    @property
    def relative_size(self) -> float:
        """Return |D| / |W|, the size of the intended change relative to the base; inf if W is zero."""
        return math.sqrt(self.intended_square / self.base_square) if self.base_square else math.inf


def measured(base: Tensor, delta: Tensor, merged: Tensor) -> Signal:
    """Compute the sums for one weight, or for some of its rows, before and after the merge.

    Args:
        base: Weight of the base as the adapter was trained on it, float32.
        delta: Intended change, float32.
        merged: Merged weight in the dtype that is saved.
    """
    flat = [tensor.reshape(-1) for tensor in (base, delta, merged)]
    total = Signal()
    for start in range(0, len(flat[0]), BLOCK):
        before, change, after = (tensor[start : start + BLOCK].float().cpu().numpy() for tensor in flat)
        arrived = after - before
        error = arrived - change
        total += Signal(
            num_weights=len(before),
            num_changed=int(np.count_nonzero(arrived != 0)),
            base_square=_dot(before, before),
            intended_square=_dot(change, change),
            arrived_square=_dot(arrived, arrived),
            product=_dot(arrived, change),
            error_square=_dot(error, error),
        )
    return total


def _dot(first: Values, second: Values) -> float:
    """Return the dot product of two float32 vectors, with partial sums in float64.

    A BLAS may add all products one after the other, which can lose 4e-6 of a sum of squares: it gets 1,024 at
    a time.
    """
    end = len(first) // SUMMED * SUMMED
    sums = np.vecdot(first[:end].reshape(-1, SUMMED), second[:end].reshape(-1, SUMMED))
    return float(sums.sum(dtype=np.float64)) + float(first[end:] @ second[end:])
