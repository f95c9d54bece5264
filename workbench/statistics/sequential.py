"""Tests that may stop at any item: two models are asked until their difference is decided.

The clusters come in a random order. A bet on the sign of each difference multiplies the wealth by
1 + stake * difference / bound. Under the null hypothesis the wealth isn't expected to grow, so it reaches
1 / alpha with a chance of at most alpha, whenever one stops. The stakes are mixed by a beta prior: with right
or wrong items this is the beta-binomial test of the items that flip.

Source: H. Robbins, Statistical methods related to the law of the iterated logarithm, 1970; I. Waudby-Smith
    and A. Ramdas, Estimating means of bounded random variables by betting, 2020.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, roots_jacobi

from workbench.statistics.clusters import Floats

HIGHER, LOWER, WITHIN_MARGIN, UNDECIDED = "higher", "lower", "within the margin", "undecided"
_PRIOR = 20
"""Both parameters of the beta prior of the stakes. With 20, a difference of 3 points is decided after 35% of
11,582 items in the median if half of the items flip (with 10: after 40%), and a difference of 10 points after
1.7% if a tenth flips (with 10: after 1.3%)."""
_NUM_STAKES = 128
_MARGIN_STAKES = np.geomspace(0.005, 0.5, 24)
"""Stakes of the bets against differences as large as the margin, equally weighted."""

_ROUNDING = 1e-9


def permutation(num_clusters: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers 0 ... num_clusters - 1 in random order, in which the test must see the clusters."""
    return np.random.default_rng(seed).permutation(num_clusters)


class SequentialTest:
    """Sequential test of two models' difference by betting: its state after the clusters seen so far.

    On each cluster, bets that one of the models is better win or lose wealth; they start with a wealth of 1,
    and a wealth of 1 / alpha decides.

    Attributes:
        decision: `higher` or `lower` (the second model's score), `within the margin`, or `undecided`; final
            once made.
        num_seen: Clusters seen.
    """

    def __init__(self, shares: ArrayLike, *, alpha: float = 0.05, margin: float | None = None) -> None:
        """Begin a test.

        Args:
            shares: Each cluster's weight in the score, in any order; their sum is 1. For a mean of n items
                the number of its items / n, for a macro mean the sum of 1 / (subsets * items of the subset).
            alpha: Largest chance of a false decision.
            margin: Differences below it are of no interest; None: only the direction is asked for.
        """
        sizes = np.asarray(shares, dtype=np.float64)
        self.decision, self.num_seen = UNDECIDED, 0
        self._threshold, self._margin = -math.log(alpha), margin
        self._bound, self._num_clusters = float(sizes.max()), len(sizes)
        self._sum = self._share_seen = 0.0
        self._stakes, self._wealth = _prior()
        self._margin_wealth = np.full((2, len(_MARGIN_STAKES)), -math.log(len(_MARGIN_STAKES)))
        self._excluded = np.zeros(2, dtype=bool)

    @property
    def difference(self) -> float:
        """The estimated difference, second minus first model, from the clusters seen; 0 at the start."""
        return self._sum / self._share_seen if self._share_seen else 0.0

    def update(self, contributions: ArrayLike, shares: ArrayLike) -> str:
        """Let the test see further clusters, in their random order, and return `decision`.

        The test ignores the clusters after that which decides.

        Args:
            contributions: Of each further cluster, the sum over its items of weight * (second - first score).
            shares: Of each further cluster, the sum of its items' weights.
        """
        values = np.atleast_1d(np.asarray(contributions, dtype=np.float64))
        if self.decision != UNDECIDED or not len(values):
            return self.decision
        sums = self._sum + np.cumsum(values)
        seen = self._share_seen + np.cumsum(np.atleast_1d(np.asarray(shares, dtype=np.float64)))
        wealth = self._wealth + np.cumsum(np.log1p(np.outer(values / self._bound, self._stakes)), axis=0)
        is_directed = np.asarray(logsumexp(wealth, axis=1) >= self._threshold)
        is_within = self._find_within(values, sums, seen)
        stops = np.flatnonzero(np.logical_or(is_directed, is_within))
        last = int(stops[0]) if len(stops) else len(values) - 1
        self._sum, self._share_seen, self._wealth = float(sums[last]), float(seen[last]), wealth[last]
        self.num_seen += last + 1
        if len(stops):
            direction = HIGHER if self._sum > 0 else LOWER
            self.decision = direction if is_directed[last] else WITHIN_MARGIN
        return self.decision

    def _find_within(self, values: Floats, sums: Floats, seen: Floats) -> NDArray[np.bool_]:
        """Return, for each new cluster, whether the difference is shown to be within the margin after it."""
        if self._margin is None:
            return np.zeros(len(values), dtype=bool)
        largest = np.abs(sums) + np.maximum(0.0, 1 - seen)
        is_certain = np.asarray(largest < self._margin - _ROUNDING)
        return np.logical_or(is_certain, self._bet_against_margins(self._margin, values, sums))

    def _bet_against_margins(self, margin: float, values: Floats, sums: Floats) -> NDArray[np.bool_]:
        """Bet that the difference is below `margin`, and that it is above `-margin`.

        Return, for each new cluster, whether both bets have won by then. As clusters are drawn without
        replacement, a difference of exactly `margin` would fix the mean of the clusters that are left.
        """
        left = self._num_clusters - self.num_seen - np.arange(len(values))
        excluded = np.zeros((2, len(values)), dtype=bool)
        for side, sign in enumerate((1.0, -1.0)):
            expected = (margin - sign * (sums - values)) / left / self._bound
            surplus = sign * values / self._bound - expected
            stakes = _MARGIN_STAKES / (1 + np.abs(expected))[:, None]
            wealth = self._margin_wealth[side] + np.cumsum(np.log1p(-stakes * surplus[:, None]), axis=0)
            is_impossible = expected > 1 + _ROUNDING
            excluded[side] = is_impossible | (logsumexp(wealth, axis=1) >= self._threshold)
            self._margin_wealth[side] = wealth[-1]
        so_far = np.asarray(
            np.logical_or.accumulate(excluded, axis=1) | self._excluded[:, None], dtype=np.bool_
        )
        self._excluded = so_far[:, -1]
        return np.asarray(so_far.all(axis=0), dtype=np.bool_)


def forecast_items(
    difference: float, discordance: float, num_items: int, *, alpha: float = 0.05, bound: float = 1.0
) -> int | None:
    """Estimate how many items the sequential test needs to decide; None: more than `num_items`.

    Args:
        difference: True difference, as a share.
        discordance: Share of items that only one of the two models answers right.
        num_items: All items.
        alpha: Largest chance of a false decision.
        bound: Largest weight of a cluster times the number of clusters: 1 for the mean of independent items.
    """
    stakes, log_weights = _prior()
    gained, lost = (discordance + difference) / 2, (discordance - difference) / 2
    growth = gained * np.log1p(stakes / bound) + lost * np.log1p(-stakes / bound)
    counts = np.arange(1, num_items + 1)
    wealth = logsumexp(log_weights + np.outer(counts, growth), axis=1)
    decided = np.flatnonzero(wealth >= -math.log(alpha))
    return int(counts[decided[0]]) if len(decided) else None


def _prior() -> tuple[Floats, Floats]:
    """Return stakes between -1 and 1, and the log of the initial wealth that bets with each stake.

    The wealth is a beta prior of (1 + stake) / 2.
    """
    stakes, weights = roots_jacobi(_NUM_STAKES, _PRIOR - 1, _PRIOR - 1)
    return stakes, np.log(weights / weights.sum())
