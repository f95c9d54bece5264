"""Gives rows letters that two of them share where no difference is shown between them."""

from collections.abc import Sequence
from string import ascii_letters

import numpy as np
from numpy.typing import ArrayLike, NDArray


def tie_letters(different: ArrayLike, order: Sequence[int]) -> list[str]:
    """Return each row's letters, as `ab`: two rows share a letter exactly where no difference is shown.

    Each letter is a group of rows of which no two differ; together the groups contain all pairs without a
    difference. Each group is grown from the first pair that no group contains yet, best rows first. The
    result has the order of `different`.

    Args:
        different: (rows, rows), whether a difference is shown between two rows; symmetric.
        order: Indices of the rows, best first; `a` is the group of the first row.

    Source: H.-P. Piepho, An algorithm for a letter-based representation of all-pairwise comparisons, 2004.
    """
    tied = ~np.asarray(different, dtype=bool)
    np.fill_diagonal(tied, True)
    covered = np.zeros_like(tied)
    letters = [""] * len(tied)
    num_groups = 0
    places = np.asarray(order, dtype=np.intp)
    for index, row in enumerate(order):
        while True:
            uncovered = places[index:][(tied[row] & ~covered[row])[places[index:]]]
            if not len(uncovered):
                break
            group = _grown([row, int(uncovered[0])], tied, order)
            covered[np.ix_(group, group)] = True
            for member in group:
                letters[member] += _letter(num_groups)
            num_groups += 1
    return letters


def _grown(pair: Sequence[int], tied: NDArray[np.bool_], order: Sequence[int]) -> list[int]:
    """Extend a pair of rows to a group in which no two rows differ, adding rows in `order` while any fits.

    `tied` (rows, rows) is True where no difference is shown between two rows.
    """
    group = list(dict.fromkeys(pair))
    fits: NDArray[np.bool_] = np.all(tied[group], axis=0)
    fits[group] = False
    for row in order:
        if fits[row]:
            group.append(row)
            fits &= tied[row]
            fits[row] = False
    return group


def _letter(number: int) -> str:
    """Return the letter of a group: a to z, A to Z, then letters of Unicode's Latin Extended Additional."""
    return ascii_letters[number] if number < len(ascii_letters) else chr(0x1E00 + number - len(ascii_letters))
