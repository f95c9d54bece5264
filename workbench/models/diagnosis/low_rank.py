"""Computes singular values of a weight difference, and whether its rank is low, as an adapter's is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.contexts import forked_random_state

EXACT = 1024
"""All singular values are computed of a matrix whose smaller dimension is at most this; of larger ones
only the largest."""
SPARE = 16
"""Number of singular values that are sketched beyond those requested."""
POWER_ITERATIONS = 4
"""Number of power iterations of a sketch."""
MOST = 256
"""Largest rank that counts as low."""
SHARE = 0.95
"""A low rank has at least this share of the energy (sum of squares) above the rounding noise."""


@dataclass(frozen=True)
class Spectrum:
    """Largest N singular values of a matrix (rows, columns), descending, with their vectors."""

    left: Tensor
    """(rows, N)"""
    values: Tensor
    """(N,)"""
    right: Tensor
    """(columns, N)"""
    energy: float
    """Sum of squares of the matrix minus that of the noise; 0 if the noise explains the matrix."""
    shares: Tensor
    """(N,) share of the energy in the first 1, 2, ... singular values, minus their noise."""

    def rank(self, share: float) -> int | None:
        """Return how many singular values have this share of the energy; None if more than N are needed."""
        ranks = (self.shares >= share).nonzero()
        return int(ranks[0]) + 1 if len(ranks) else None


def spectrum(matrix: Tensor, most: int, noise: float = 0.0) -> Spectrum:
    """Return the largest singular values of a float32 matrix: `most`, a few more, or all if it is small.

    The global random state isn't changed.

    Args:
        matrix: (rows, columns).
        most: Least number of values; fewer only if the matrix has fewer.
        noise: Expected sum of squares of rounding errors, which spread over all singular values.
    """
    smaller = min(matrix.shape)
    if smaller <= EXACT or most + SPARE >= smaller:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        right = right.T
    else:
        with forked_random_state():
            torch.manual_seed(0)
            left, values, right = torch.svd_lowrank(matrix, q=most + SPARE, niter=POWER_ITERATIONS)
    energy = max(0.0, float(matrix.double().square().sum()) - noise)
    above = (values.double().square() - noise / smaller).clamp(min=0).cumsum(0)
    return Spectrum(left, values, right, energy, above / energy if energy else torch.zeros_like(above))


def low_rank(matrix: Tensor, noise: float) -> int | None:
    """Return the rank of a matrix if it is low; None if it isn't, or if the matrix is only rounding noise.

    Low means at most `MOST`, and at most a quarter of the smaller dimension.

    Args:
        matrix: A difference of weights (rows, columns), in float32.
        noise: Expected sum of squares of rounding errors in it.
    """
    most = min(MOST, min(matrix.shape) // 4)
    if most < 1 or float(matrix.double().square().sum()) <= 2 * noise:
        return None
    rank = spectrum(matrix, most, noise).rank(SHARE)
    return rank if rank is not None and rank <= most else None
