"""Averages scores over benchmarks, normalised by the score of guessing, and tests their differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.errors import DataError
from workbench.statistics.clusters import Labels, cluster_codes, item_weights
from workbench.statistics.paired import PairedTest, compare_paired


@dataclass(frozen=True, kw_only=True)
class Column:
    """Two models' scores on the items of one benchmark, in the same order of items."""

    first: ArrayLike
    """The first model's score of each item."""
    second: ArrayLike
    """The second model's score of each item."""
    chance: float = 0.0
    """Score of guessing: the mean over the items of 1 / choices; 0 for generated answers."""
    clusters: Labels | None = None
    """Label of each item's cluster; None: independent items."""
    subsets: Labels | None = None
    """Subset of each item, where the benchmark's score is the mean of subset means; None: it isn't."""


def normalised(score: float, chance: float) -> float:
    """Rescale a score so that guessing gives 0, and all right gives 1; below 0 is worse than guessing.

    Raises:
        DataError: Guessing is always right.
    """
    if chance >= 1:
        raise DataError(f"mean of benchmarks: the score of guessing is {chance:g} (it must be below 1)")
    return (score - chance) / (1 - chance)


def mean_of_scores(
    scores: Sequence[float], errors: Sequence[float], chances: Sequence[float]
) -> tuple[float, float]:
    """Return the mean of the normalised scores of independent benchmarks, and the mean's standard error.

    Args:
        scores: Score of each benchmark, not normalised.
        errors: Standard error of each score.
        chances: Score of guessing on each benchmark.

    Raises:
        DataError: Guessing is always right on a benchmark.
    """
    values = [normalised(score, chance) for score, chance in zip(scores, chances, strict=True)]
    scaled = [error / (1 - chance) for error, chance in zip(errors, chances, strict=True)]
    return math.fsum(values) / len(values), math.hypot(*scaled) / len(scaled)


def compare_means(columns: Sequence[Column], *, alpha: float = 0.05) -> PairedTest:
    """Test the difference of two models' equal-weight mean of normalised scores.

    All items of all benchmarks enter one sign-flip test, each with its weight in the mean; see
    `compare_paired`. Cluster labels are separate for each benchmark.

    Raises:
        DataError: Guessing is always right on a benchmark, or the scores can't be compared.
    """
    for column in columns:
        normalised(0.0, column.chance)  # refuses a benchmark that guessing solves
    sizes = [len(np.asarray(column.first)) for column in columns]
    weights = [
        item_weights(size, column.subsets) / (len(columns) * (1 - column.chance))
        for size, column in zip(sizes, columns, strict=True)
    ]
    return compare_paired(
        np.concatenate([np.asarray(column.first, dtype=np.float64) for column in columns]),
        np.concatenate([np.asarray(column.second, dtype=np.float64) for column in columns]),
        alpha=alpha,
        clusters=_all_clusters(columns, sizes),
        weights=np.concatenate(weights),
    )


def _all_clusters(columns: Sequence[Column], sizes: Sequence[int]) -> NDArray[np.int64] | None:
    """Return each item's cluster, numbered over all benchmarks; None if all items are independent."""
    if all(column.clusters is None for column in columns):
        return None
    codes = [cluster_codes(column.clusters, size) for size, column in zip(sizes, columns, strict=True)]
    offsets = np.cumsum([0, *(int(code.max()) + 1 for code in codes[:-1])])
    return np.concatenate([code + offset for code, offset in zip(codes, offsets, strict=True)])
