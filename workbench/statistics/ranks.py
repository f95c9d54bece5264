"""Derives rank intervals from the significant differences between rows."""

import numpy as np
from numpy.typing import ArrayLike


def rank_intervals(better: ArrayLike, comparable: ArrayLike | None = None) -> list[tuple[int, int]]:
    """Return each row's best and worst rank as (best, worst), counted from 1.

    The best rank is 1 + the number of rows that are significantly better, the worst is the number of rows
    minus those that are significantly worse. If no significant difference has a false sign, all intervals
    contain the true ranks.

    Args:
        better: (rows, rows), at [i, j] whether row i is significantly better than row j.
        comparable: (rows, rows), whether two rows have the same items; None: all have. A row is ranked among
            the rows it's comparable with.
    """
    wins = np.asarray(better, dtype=bool)
    same = np.ones_like(wins) if comparable is None else np.asarray(comparable, dtype=bool).copy()
    np.fill_diagonal(same, True)
    wins = wins & same
    best = 1 + wins.sum(axis=0)
    worst = same.sum(axis=1) - wins.sum(axis=1)
    return [(int(low), int(high)) for low, high in zip(best, worst, strict=True)]
