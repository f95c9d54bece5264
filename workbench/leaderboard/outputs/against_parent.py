"""Finds the tested difference between a model and its parent, the model that it was made from."""

from dataclasses import replace

from workbench.leaderboard.board import BETTER, WORSE, Board, Difference, Model

SWAPPED = {BETTER: WORSE, WORSE: BETTER}


def against_parent(board: Board, model: Model, column: str) -> Difference | None:
    """Return a model's score minus its parent's in a column or mean, as tested; None if the board has none.

    `column` is the key of a column, or the name of a mean.
    """
    for difference in board.differences:
        if difference.column == column and model.parent is not None:
            if (difference.first, difference.second) == (model.parent, model.key):
                return difference
            if (difference.first, difference.second) == (model.key, model.parent):
                return swapped(difference)
    return None


def swapped(difference: Difference) -> Difference:
    """Return the difference with both models exchanged: opposite sign, bounds, counts and verdict."""
    return replace(
        difference,
        first=difference.second,
        second=difference.first,
        value=_negative(difference.value),
        low=_negative(difference.high),
        high=_negative(difference.low),
        gained=difference.lost,
        lost=difference.gained,
        verdict=SWAPPED.get(difference.verdict, difference.verdict),
    )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
