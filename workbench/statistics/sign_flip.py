"""Computes the exact sign-flip test of a sum of differences, and the interval that inverts it.

Under the null hypothesis each cluster's difference is as likely to have the opposite sign. The distribution
of their sum is a convolution, which the Fourier transform turns into a product: that of n clusters of size q
is cos(angle * q)^n. With clusters of one right or wrong item this is the exact McNemar test.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_SMALLEST_P = 1e-15
"""Smaller p-values are lost in the transform's rounding, and are reported as this."""
_SPREADS = 17.2
"""Width of the grid in standard deviations of the sum; less than 3e-16 of the distribution lies outside."""
_COARSE = 400.0
"""Standard deviation of the sum in steps of the grid, for values without a common step."""
_FINEST = 3800.0
"""Largest standard deviation in steps, for values with a common step."""
_CELLS = 8192


def sign_flip(
    contributions: Floats, shares: Floats, alpha: float, largest: float
) -> tuple[float, float, float]:
    """Return the two-sided p-value and the interval (p, low, high) of the sum of the contributions.

    The null hypothesis is that each contribution could as well have the opposite sign. The interval contains
    the differences d for which the same test, of contributions - d * shares, doesn't reject. It excludes 0
    exactly where p < alpha. An end can be infinite.

    Contributions that are multiples of a common step are tested exactly; others are rounded to 1/400 of the
    standard deviation of their sum, which leaves the test exact and changes its weights slightly.

    Args:
        contributions: Contribution of each cluster to the difference; their sum is the difference.
        shares: Share of each cluster in the total weight; their sum is 1.
        alpha: Level of the test.
        largest: Largest possible absolute difference, infinite if unknown.
    """
    pairs, counts = np.unique(contributions + 1j * shares, return_counts=True)
    values, widths = pairs.real, pairs.imag
    difference = float(contributions.sum())
    p_value = _p_value(values, counts)
    spread = math.sqrt(float(counts @ (values - difference * widths) ** 2))
    if spread <= 1e-9 * abs(difference):
        return p_value, *_interval_of_equals(difference, int(counts.sum()), alpha)

    def excess(shift: float) -> float:
        return math.log(_shifted_p_value(values - shift * widths, counts) / alpha)

    is_significant = p_value < alpha
    stops = [0.0 if is_significant and difference * side < 0 else None for side in (-1, 1)]
    low = _end(excess, difference, -spread, stops[0])
    high = _end(excess, difference, spread, stops[1])
    if not is_significant:
        low, high = min(low, 0.0), max(high, 0.0)
    return p_value, max(low, -largest), min(high, largest)


def _interval_of_equals(difference: float, num_clusters: int, alpha: float) -> tuple[float, float]:
    """Return the interval (low, high) for clusters that all have the same contribution per share.

    It is exact: the probability of equal signs of all clusters decides.
    """
    inner = (2 * (alpha / 2) ** (1 / num_clusters) - 1) * difference
    return min(inner, difference), max(inner, difference)


def _end(excess: Callable[[float], float], centre: float, spread: float, stop: float | None) -> float:
    """Return an end of the interval: where the p-value falls to alpha, searched from the centre outwards.

    Args:
        excess: log(p / alpha) at a difference; positive at the centre.
        centre: Observed difference.
        spread: Its standard error, with the sign of the direction.
        stop: A difference that the test rejects; None: one is searched for; if there is none, the end is
            infinite.
    """
    if stop is None:
        inside, outside = centre, centre + 2 * spread
        for _ in range(12):
            if excess(outside) < 0:
                break
            inside, outside = outside, outside + 2 * (outside - centre)
        else:
            return math.copysign(math.inf, spread)
    else:
        inside, outside = centre, stop
        nearly = stop + (centre - stop) * 1e-9
        if excess(nearly) >= 0:  # the rounding of the grid lets the p-value cross alpha right at 0
            return nearly
        outside = nearly
    return float(brentq(excess, inside, outside, xtol=1e-4 * abs(spread)))


def _p_value(values: Floats, counts: Counts) -> float:
    """Return the p-value of the sum of all clusters' values; `counts[i]` clusters have value `values[i]`."""
    steps = _grid_steps(values, counts)
    observed = abs(int(counts @ steps))
    return _tail(np.abs(steps), counts, observed)


def _shifted_p_value(values: Floats, counts: Counts) -> float:
    """Return the p-value of the sum of all clusters' values, for an end of the interval.

    Magnitudes are rounded to a coarse grid, which is then scaled to preserve their sum of squares.
    """
    step = math.sqrt(float(counts @ values**2)) / _COARSE
    if not step:
        return 1.0
    steps = np.rint(np.abs(values) / step).astype(np.int64)
    step *= _COARSE / math.sqrt(float(counts @ steps**2))
    return _tail(steps, counts, math.ceil(abs(float(counts @ values)) / step - 1e-6))


def _grid_steps(values: Floats, counts: Counts) -> Counts:
    """Return the values as integer multiples of a step.

    The step is the values' greatest common divisor; if that is too small, the values are rounded to a fine
    grid.
    """
    spread = math.sqrt(float(counts @ values**2))
    if not spread:
        return np.zeros(len(values), dtype=np.int64)
    step = _common_step(np.abs(values), spread / _FINEST) or spread / _COARSE
    return np.rint(values / step).astype(np.int64)


def _common_step(magnitudes: Floats, smallest: float) -> float | None:
    """Return the largest number of which all magnitudes are multiples; None if below `smallest`."""
    tolerance = 1e-9 * float(magnitudes.max())
    step = 0.0
    for magnitude in np.unique(magnitudes[magnitudes > 0]):
        rest = float(magnitude)
        while rest > tolerance:  # Euclid's algorithm; `remainder` forgives what lies just below a multiple
            step, rest = rest, abs(math.remainder(step, rest))
        if step < smallest:
            return None
    return step


def _tail(steps: Counts, counts: Counts, observed: int) -> float:
    """Return P(|sum| >= observed) for a sum of integers with random signs.

    The sum has `counts[i]` terms of magnitude `steps[i]`.
    """
    if observed <= 0 or not steps.any():
        return 1.0
    totals = np.bincount(steps, weights=counts).astype(np.int64)
    sizes = np.flatnonzero(totals[1:]) + 1
    spread = math.sqrt(float(totals[sizes] @ sizes**2))
    needed = max(_CELLS, _SPREADS * spread, 2 * int(sizes.max(initial=0)) + 2)
    cells = 1 << math.ceil(math.log2(needed))
    if observed > cells // 2:
        return _SMALLEST_P
    logarithm, sign = np.zeros(cells // 2 + 1), np.zeros(cells // 2 + 1, dtype=bool)
    for size in sizes:
        log_cosine, is_negative = _cosines(cells, int(size))
        logarithm += totals[size] * log_cosine
        if totals[size] % 2:
            sign ^= is_negative
    spectrum = np.where(sign, -1.0, 1.0) * np.exp(logarithm)
    probabilities = np.fft.irfft(spectrum, cells)
    half = cells // 2
    tail = 2 * float(probabilities[observed:half].sum()) + float(probabilities[half])
    return min(1.0, max(tail, _SMALLEST_P))


@lru_cache(maxsize=128)
def _cosines(cells: int, size: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Return log|cos| and whether cos is negative, of the angles 2 pi j size / cells, j = 0 ... cells / 2."""
    angles = 2 * np.pi / cells * ((np.arange(cells // 2 + 1) * size) % cells)
    cosine = np.cos(angles)
    return np.log(np.maximum(np.abs(cosine), 1e-300)), cosine < 0
