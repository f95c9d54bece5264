"""Bounds how much a second model may have lost against a first one on the same items."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from workbench.statistics.clusters import cluster_codes, item_weights
from workbench.statistics.means import Column, compare_means


def most_lost(columns: Sequence[Column], *, alpha: float = 0.05) -> float:
    """Return the upper bound, with one-sided confidence 1 - alpha, of the second model's loss.

    The loss is the first model's mean over the benchmarks minus the second's; a certain gain gives a negative
    bound. For a single benchmark whose items are right or wrong, independent and of equal weight, the bound
    is Tango's score bound; otherwise that of the paired test. If too few items differ for that test, only
    losses count: Clopper and Pearson's bound of the share of clusters that lose, as if each of them lost all
    that it can, and nothing were gained. For scores outside of 0 to 1 that bound is infinite.

    Args:
        columns: The two models' scores on each benchmark; higher is better. Their `chance` should be 0: only
            the paired test takes it into account.
        alpha: Largest chance that the true loss exceeds the bound.

    Raises:
        DataError: The scores can't be compared.
    """
    if len(columns) == 1 and _is_binary(columns[0]):
        first, second = (np.asarray(side, dtype=np.float64) for side in (columns[0].first, columns[0].second))
        return most_lost_of_pairs(int((second < first).sum()), int((second > first).sum()), len(first), alpha)
    test = compare_means(columns, alpha=2 * alpha)
    if not test.reason and math.isfinite(test.low):
        return -test.low
    return math.fsum(_bound_by_losses(column, alpha / len(columns)) for column in columns) / len(columns)


def most_lost_of_pairs(lost: int, gained: int, num_items: int, alpha: float = 0.05) -> float:
    """Return the upper bound, with one-sided confidence 1 - alpha, of lost minus gained items, as a share.

    It is the largest difference that the score test of Tango (Statistics in Medicine 17, 1998) doesn't
    reject. For alpha = 5% the true difference exceeds the bound with a probability of at most 6%, computed
    exactly, also if few items flip.
    """
    quantile = float(special.ndtri(1 - alpha))
    estimate = (lost - gained) / num_items
    if estimate >= 1:
        return 1.0

    def excess(difference: float) -> float:
        share = _gained_share(lost, gained, num_items, difference)
        variance = num_items * (2 * share + difference * (1 - difference))
        return (lost - gained - num_items * difference) / math.sqrt(max(variance, 1e-300)) + quantile

    return float(optimize.brentq(excess, estimate, 1.0 - 1e-12))


def _gained_share(lost: int, gained: int, num_items: int, difference: float) -> float:
    """Return the maximum-likelihood share of gained items if `difference` is the true share lost - gained."""
    linear = -lost - gained + (2 * num_items - lost + gained) * difference
    constant = -gained * difference * (1 - difference)
    root = math.sqrt(max(linear**2 - 8 * num_items * constant, 0.0))
    return (root - linear) / (4 * num_items)


def _is_binary(column: Column) -> bool:
    """Return whether a benchmark's items are right or wrong, independent and of equal weight."""
    values = np.concatenate([np.asarray(column.first), np.asarray(column.second)])
    return column.clusters is None and column.subsets is None and bool(np.isin(values, (0, 1)).all())


def _bound_by_losses(column: Column, alpha: float) -> float:
    """Return the upper bound of the loss on one benchmark, from its number of clusters that lose.

    Each of them counts as losing the largest weight of any cluster, and gains are ignored. The bound is
    infinite for scores outside of 0 to 1.
    """
    first, second = (np.asarray(side, dtype=np.float64) for side in (column.first, column.second))
    if min(first.min(), second.min()) < 0 or max(first.max(), second.max()) > 1:
        return math.inf
    weights = item_weights(len(first), column.subsets)
    codes = cluster_codes(column.clusters, len(first))
    differences = np.bincount(codes, weights=weights * (second - first))
    lost, count = int((differences < 0).sum()), len(differences)
    share = 1.0 if lost == count else float(special.betaincinv(lost + 1, count - lost, 1 - alpha))
    largest = float(np.bincount(codes, weights=weights).max())
    return min(1.0, share * count * largest)
