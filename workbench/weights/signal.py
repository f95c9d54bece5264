"""Measures how much of a merge's intended change of the weights is left after rounding."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float32]
BLOCK = 2**16
"""Number of weights that `measured` compares at a time, in a core's cache."""
SUMMED = 2**10
"""Number of products that are added up in float32; their sums are added in float64."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Sums over all elements of one or more weight tensors, from which shares and errors are computed.

    D is the intended change of the elements, A the change after rounding. Signals can be added.
    """

    num_weights: int = 0
    """Number of elements."""
    num_changed: int = 0
    """Number of elements that differ after the merge."""
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
        """Return the share of the elements that differ after the merge; 0 if there are no elements."""
        return self.num_changed / self.num_weights if self.num_weights else 0.0

    @property
    def relative_size(self) -> float:
        """Return |D| / |W|, the size of the intended change relative to the base; inf if W is zero."""
        return math.sqrt(self.intended_square / self.base_square) if self.base_square else math.inf


def measured(base: Tensor, delta: Tensor, merged: Tensor) -> Signal:
    """Compute the sums for one weight tensor, or for some of its rows.

    Args:
        base: Weight of the base as the adapter was trained on it, float32.
        delta: Intended change of the same shape, float32.
        merged: Merged weight of the same shape, in any dtype after rounding to the saved one.
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
