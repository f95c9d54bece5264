"""Tells what several rounds of a measurement show: the median and the range of them.

The two sides of a comparison take turns, so that a round's ratio is of two neighbours in time, and less noisy
than the seconds.
"""

from collections.abc import Sequence
from statistics import median


def shown(values: Sequence[float], digits: int) -> str:
    """Return "median (lowest to highest)"; the median alone if there is one value."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of the two sides in each round."""
    return [left / right for left, right in zip(above, below, strict=True)]
