"""Turns a paired test into what the board shows: verdict, interval, corrected p-value."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from workbench.leaderboard.board import BETTER, UNSURE, UNTESTED, WORSE
from workbench.statistics.binary_pairs import compare_flips
from workbench.statistics.paired import PairedTest


@dataclass(frozen=True)
class Shown:
    """Numbers of a test as far as they are known, and its verdict."""

    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    verdict: str


def shown(test: PairedTest, num_comparisons: int, *, lower_is_better: bool = False) -> Shown:
    """Return a test as the board shows it; without a settled verdict there is no interval.

    Args:
        test: The test, at the level of one comparison of its family.
        num_comparisons: Size of the family.
        lower_is_better: Whether the lower score is better.
    """
    if math.isnan(test.p_value):
        return Shown(None, None, None, None, UNTESTED)
    sign = -test.sign if lower_is_better else test.sign
    return Shown(
        low=None if test.reason else test.low,
        high=None if test.reason else test.high,
        p_value=test.p_value,
        p_adjusted=min(1.0, test.p_value * max(1, num_comparisons)),
        verdict={1: BETTER, -1: WORSE}.get(sign, UNSURE),
    )


def exact_tests(gained: ArrayLike, lost: ArrayLike, num_items: int, alpha: float) -> list[PairedTest]:
    """Return the exact McNemar tests of many pairs of models at once.

    Args:
        gained: Items that only the second model of each pair answers right.
        lost: Items that only the first one answers right.
        num_items: Items that all have answered.
        alpha: Level of each test.
    """
    up, down = np.asarray(gained, dtype=np.int64), np.asarray(lost, dtype=np.int64)
    found = compare_flips(up, down, num_items, alpha)
    error = np.sqrt(np.maximum((up + down) / num_items - found.difference**2, 0.0) / max(1, num_items - 1))
    return [
        PairedTest(
            difference=float(found.difference[index]),
            stderr=float(error[index]) or 1 / num_items,
            low=float(found.low[index]),
            high=float(found.high[index]),
            p_value=float(found.p_value[index]),
            alpha=alpha,
            test="mcnemar-exact",
            num_items=num_items,
            gained=int(up[index]),
            lost=int(down[index]),
            num_clusters=num_items,
            num_differing=int(up[index] + down[index]),
            share_squares=1 / num_items,
        )
        for index in range(len(up))
    ]
