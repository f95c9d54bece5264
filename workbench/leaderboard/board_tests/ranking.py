"""Ranks the models of a column or of a mean by the differences that the family has shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.leaderboard.board import BETTER, WORSE, Difference
from workbench.statistics.ranks import rank_intervals, tie_letters


@dataclass(frozen=True)
class Rank:
    """The place of a row among the rows that it is compared with."""

    best: int
    worst: int
    letters: str
    """Rows that share a letter aren't told apart."""


def ranks(
    scores: Mapping[str, float],
    differences: Sequence[Difference],
    reference: str,
    lower_is_better: bool,
) -> dict[str, Rank]:
    """Return the rank of each model.

    With a reference, two models differ where their intervals against it don't overlap: the intervals hold at
    once, so that follows from them without further tests.

    Args:
        scores: Model -> score, of the models that are compared.
        differences: Differences between them.
        reference: Key of the reference; empty if the differences are between any two.
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
    """Return which model is better than which by their intervals against the reference."""
    low, high = np.full(len(models), -np.inf), np.full(len(models), np.inf)
    index_of = {model: index for index, model in enumerate(models)}
    low[index_of[reference]] = high[index_of[reference]] = 0.0
    for difference in differences:
        if difference.first == reference and difference.low is not None and difference.high is not None:
            index = index_of[difference.second]
            low[index], high[index] = difference.low, difference.high
    above: NDArray[np.bool_] = low[:, None] > high[None, :]
    return above.T if lower_is_better else above
