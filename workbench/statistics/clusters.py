"""Turns labels of clusters and subsets into numbers, weights and standard errors."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workbench.errors import DataError

Floats = NDArray[np.float64]
Labels = Sequence[object] | NDArray[np.generic]
"""Label of each item: the name of its cluster or subset, or any other object."""


def item_weights(num_items: int, subsets: Labels | None = None) -> Floats:
    """Return each item's weight in the mean of all items or, given `subsets`, in the mean of subset means.

    The weights sum to 1.

    Raises:
        DataError: The number of labels isn't that of the items.
    """
    if subsets is None:
        return np.full(num_items, 1 / num_items)
    codes = cluster_codes(subsets, num_items)
    sizes = np.bincount(codes)
    weights: Floats = 1 / (len(sizes) * sizes[codes])
    return weights


def cluster_codes(clusters: Labels | None, num_items: int) -> NDArray[np.int64]:
    """Return each item's cluster as a number: 0 to number of clusters - 1.

    Args:
        clusters: Label of each item's cluster; None: each item is a cluster by itself.
        num_items: Number of items.

    Raises:
        DataError: The number of labels isn't that of the items.
    """
    if clusters is None:
        return np.arange(num_items)
    if len(clusters) != num_items:
        raise DataError(
            f"paired comparison: {len(clusters)} labels for {num_items} items (each item needs one)"
        )
    if isinstance(clusters, np.ndarray) and np.issubdtype(clusters.dtype, np.integer):
        codes: NDArray[np.int64] = np.unique(clusters, return_inverse=True)[1].astype(np.int64)
        return codes
    numbers: dict[object, int] = {}
    labels = clusters.tolist() if isinstance(clusters, np.ndarray) else clusters
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def clustered_error(deviations: Floats) -> float:
    """Return the standard error of a sum of independent terms, one per cluster.

    `deviations` are the terms minus their expected values. With a single cluster the error is 0.
    """
    count = len(deviations)
    return math.sqrt(float((deviations**2).sum()) * count / (count - 1)) if count > 1 else 0.0
