"""Defines which comparisons a leaderboard makes, and corrects for their number.

A family is a set of comparisons that are corrected together. A leaderboard's families are fixed when it is
built. The chance that it shows any difference where there is none is at most 5%: 3% for pairs of rows on
columns and means, 1% for subjects, 1% for forgetting. The correction is Bonferroni's single step, because
only with a single step an interval of every comparison has the family's coverage and decides the verdict.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from workbench.errors import ConfigError

ERROR_RATES = {"pairs": 0.03, "subjects": 0.01, "forgetting": 0.01}
"""Family -> largest chance that it shows a difference where there is none."""
MOST_ROWS_FOR_PAIRS = 20
"""With more rows, each row is compared with one reference only."""


@dataclass(frozen=True)
class Family:
    """A family of comparisons: together they have one error rate, which is divided among them."""

    name: str
    """Key of ERROR_RATES."""
    size: int
    """Number of comparisons."""

    @property
    def error_rate(self) -> float:
        """Return the largest chance that the family shows any difference where there is none."""
        return ERROR_RATES[self.name]

    @property
    def alpha(self) -> float:
        """Return the level of each test; 1 - alpha is the coverage of each interval."""
        return level(self.error_rate, self.size)


def level(error_rate: float, num_comparisons: int) -> float:
    """Return the level of each single test: the family's error rate divided by the number of comparisons."""
    return error_rate / max(1, num_comparisons)


def adjusted(p_value: float, num_comparisons: float) -> float:
    """Return a p-value after Bonferroni's correction: multiplied by the number of comparisons, at most 1.

    The comparison is significant if the result is below the error rate of the family.
    """
    return min(1.0, max(1, num_comparisons) * p_value)


def default_kind(num_rows: int) -> str:
    """Return how a leaderboard of so many rows compares them by default.

    `pairs`: every two rows; `reference`, with more than MOST_ROWS_FOR_PAIRS: each row with a reference row.
    """
    return "pairs" if num_rows <= MOST_ROWS_FOR_PAIRS else "reference"


def pairs_of(
    num_rows: int, kind: str = "pairs", *, reference: int = 0, chosen: Iterable[int] = ()
) -> list[tuple[int, int]]:
    """Return the pairs of rows that are compared, as indices (first, second) of two different rows.

    Args:
        num_rows: Number of rows of the leaderboard.
        kind: `pairs` (every two rows), `reference` (each row with the reference row) or `names` (every two of
            the rows that the user names).
        reference: Index of the reference row, the first of each pair of kind `reference`; else ignored.
        chosen: Indices of the rows that the user names, for kind `names`; else ignored.

    Raises:
        ConfigError: The kind is unknown.
    """
    if kind == "pairs":
        return list(combinations(range(num_rows), 2))
    if kind == "reference":
        return [(reference, row) for row in range(num_rows) if row != reference]
    if kind == "names":
        return list(combinations(sorted(set(chosen)), 2))
    raise ConfigError(f"leaderboard.family: unknown family {kind!r} (known: pairs, reference, names)")
