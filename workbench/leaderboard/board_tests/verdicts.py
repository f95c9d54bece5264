"""Converts a paired test into the board's form: verdict, interval and corrected p-value."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from workbench.leaderboard.board import BETTER, UNSURE, UNTESTED, WORSE, BoardFamily, Difference
from workbench.statistics.binary_pairs import compare_flips
from workbench.statistics.family import adjusted
from workbench.statistics.paired import PairedTest
from workbench.statistics.power import detectable


@dataclass(frozen=True)
class Verdict:
    """Interval, p-values and verdict of a test; None where the test has no such number.

    `verdict` is one of the board's: better, worse, no difference shown, not tested.
    """

    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    verdict: str


def verdict_on(test: PairedTest | None, num_comparisons: float, *, lower_is_better: bool = False) -> Verdict:
    """Return interval, p-values and verdict of a test.

    The interval is None where the test gives a reason against a verdict (`test.reason`). Without a test or a
    p-value, all numbers are None and the verdict is `UNTESTED`.

    Args:
        test: The test, computed at the level of a single comparison of its family; None: there is none.
        num_comparisons: Number of comparisons in the family, for the correction: the family's error rate
            divided by the test's level.
        lower_is_better: Whether the lower score is better.
    """
    if test is None or math.isnan(test.p_value):
        return Verdict(None, None, None, None, UNTESTED)
    sign = -test.sign if lower_is_better else test.sign
    return Verdict(
        low=None if test.reason else test.low,
        high=None if test.reason else test.high,
        p_value=test.p_value,
        p_adjusted=adjusted(test.p_value, num_comparisons),
        verdict={1: BETTER, -1: WORSE}.get(sign, UNSURE),
    )


def as_difference(
    test: PairedTest,
    pair: tuple[str, str],
    column: str,
    family: BoardFamily,
    *,
    lower_is_better: bool = False,
    problem: str | None = None,
) -> Difference:
    """Convert a test of two models into a `Difference` of the board.

    `gained` counts the items on which the second model is better, also where lower scores are better.

    Args:
        test: The test, computed at the level of a single comparison of the family.
        pair: Keys of the two models.
        column: Key of the column, or name of the mean.
        family: The board's family.
        lower_is_better: Whether the lower score is better.
        problem: Remark on the test; None: the test's reason for giving no verdict, if any.
    """
    numbers = verdict_on(test, family.num_comparisons, lower_is_better=lower_is_better)
    gained, lost = (test.lost, test.gained) if lower_is_better else (test.gained, test.lost)
    return Difference(
        first=pair[0],
        second=pair[1],
        column=column,
        value=test.difference,
        low=numbers.low,
        high=numbers.high,
        p_value=numbers.p_value,
        p_adjusted=numbers.p_adjusted,
        family=family.num_comparisons,
        test=test.test,
        num_pairs=test.num_items,
        num_clusters=test.num_clusters,
        gained=gained,
        lost=lost,
        detectable=None if numbers.p_value is None else detectable(test),
        verdict=numbers.verdict,
        problem=test.reason if problem is None else problem,
    )


def exact_tests(gained: ArrayLike, lost: ArrayLike, num_items: int, alpha: float) -> list[PairedTest]:
    """Return the exact McNemar tests of many pairs of models, in the order of the pairs.

    Args:
        gained: (num_pairs,) number of items that only the second model answers right.
        lost: (num_pairs,) number of items that only the first model answers right.
        num_items: Number of items that all models answered, at least 1.
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
