"""Ranks models in a column or mean by the differences that the tests have shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.leaderboard.board import BETTER, WORSE, Difference
from workbench.statistics.ranks import rank_intervals
from workbench.statistics.tie_letters import tie_letters


@dataclass(frozen=True)
class Rank:
    """Best and worst rank that the tests leave possible for a model, and its tie letters."""

    best: int
    worst: int
    letters: str
    """No difference was shown between two models that share a letter."""


def ranks(
    scores: Mapping[str, float],
    differences: Sequence[Difference],
    reference: str,
    lower_is_better: bool,
) -> dict[str, Rank]:
    """Return the rank range and tie letters of each model; two models tie unless a test tells them apart.

    With a reference, two models differ if their intervals against it don't overlap. That needs no further
    tests, because the intervals are simultaneous.

    Args:
        scores: Key of each compared model -> its score.
        differences: Tested differences between these models.
        reference: Key of the model that all are compared with; empty if any two models are compared.
        lower_is_better: Whether the lower score is better.
    """
    models = list(scores)
    index_of = {model: index for index, model in enumerate(models)}
    within = [each for each in differences if {each.first, each.second} <= scores.keys()]
    better = np.zeros((len(models), len(models)), dtype=bool)
    if reference in index_of:
        better |= _apart_from(reference, models, within, lower_is_better)
    for difference in within:
        first, second = index_of[difference.first], index_of[difference.second]
        better[second, first] |= difference.verdict == BETTER
        better[first, second] |= difference.verdict == WORSE
    sign = 1 if lower_is_better else -1
    order = sorted(range(len(models)), key=lambda index: sign * scores[models[index]])
    letters = tie_letters(better | better.T, order)
    intervals = rank_intervals(better)
    return {
        model: Rank(best=best, worst=worst, letters=letter)
        for model, (best, worst), letter in zip(models, intervals, letters, strict=True)
    }


def _apart_from(
    reference: str, models: Sequence[str], differences: Sequence[Difference], lower_is_better: bool
) -> NDArray[np.bool_]:
    """Compare models by the intervals of their differences to the reference.

    Returns:
        (num_models, num_models) booleans: the row's model is better than the column's, because its interval
        lies wholly on the better side of the other interval.
    """
    low, high = np.full(len(models), -np.inf), np.full(len(models), np.inf)
    index_of = {model: index for index, model in enumerate(models)}
    low[index_of[reference]] = high[index_of[reference]] = 0.0
    for difference in differences:
        if difference.first == reference and difference.low is not None and difference.high is not None:
            index = index_of[difference.second]
            low[index], high[index] = difference.low, difference.high
    above: NDArray[np.bool_] = low[:, None] > high[None, :]
    return above.T if lower_is_better else above
