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
    place = {model: index for index, model in enumerate(models)}
    within = [found for found in differences if {found.first, found.second} <= scores.keys()]
    better = np.zeros((len(models), len(models)), dtype=bool)
    if reference in place:
        better |= _apart_from(reference, models, within, lower_is_better)
    for found in within:
        first, second = place[found.first], place[found.second]
        better[second, first] |= found.verdict == BETTER
        better[first, second] |= found.verdict == WORSE
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
    place = {model: index for index, model in enumerate(models)}
    low[place[reference]] = high[place[reference]] = 0.0
    for found in differences:
        if found.first == reference and found.low is not None and found.high is not None:
            low[place[found.second]], high[place[found.second]] = found.low, found.high
    above: NDArray[np.bool_] = low[:, None] > high[None, :]
    return above.T if lower_is_better else above
