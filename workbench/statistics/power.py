"""Computes the smallest true difference that the exact tests find with a given power.

An item flips if only one of the two models answers it right. The number of items that flip is random too:
each item flips with the observed share as its probability. The power is the sum over all numbers of flips of
their chance times the chance that the exact McNemar test rejects.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import brentq

from workbench.statistics.paired import PairedTest

Floats = NDArray[np.float64]
_REACH = 5.5
"""Numbers of flips within so many standard deviations of the mean are summed over; 4e-8 lies outside."""


def detectable(test: PairedTest, power: float = 0.8) -> float | None:
    """Return the smallest true difference, as a magnitude, that a test like the given one finds.

    Items, level and the number of items (clusters) that differ are those of the given test. None: the test
    can't find any difference with that power.

    Args:
        test: A test of observed scores.
        power: Chance with which the difference is found.
    """
    if test.test == "mcnemar-exact":
        return detectable_difference(test.num_items, test.num_differing, test.alpha, power)
    sum_squares = test.stderr**2 + test.difference**2 * test.share_squares
    return detectable_weighted(sum_squares, test.share_squares, test.alpha, power)


@lru_cache(maxsize=65536)
def detectable_difference(
    num_items: int, num_differing: int, alpha: float, power: float = 0.8
) -> float | None:
    """Return the smallest true difference of two shares of right answers that the exact McNemar test finds.

    Args:
        num_items: Items of the comparison.
        num_differing: Items that flip; the share num_differing / num_items is taken as the truth.
        alpha: Level of the test, that is the family's error rate divided by its size.
        power: Chance with which the test finds the difference.

    Returns:
        A difference between 0 and num_differing / num_items, or None: even if all flips went one way, the
        test wouldn't find it.
    """
    share = num_differing / num_items

    def excess(difference: float) -> float:
        return mcnemar_power(num_items, share, difference, alpha) - power

    return _root(excess, share)


@lru_cache(maxsize=65536)
def detectable_damage(num_items: int, num_differing: int, alpha: float, power: float = 0.8) -> float | None:
    """Return the smallest loss in one subject that the exact McNemar test finds, as a share of its items.

    The loss is of items in addition to those that flip without damage, half of which are gained, half lost.

    Args:
        num_items: Items of the subject.
        num_differing: Items that flip without damage.
        alpha: Level of the test, that is the family's error rate divided by its size.
        power: Chance with which the test finds the loss.

    Returns:
        A loss between 0 and 1, or None: even if all other items were lost, the test wouldn't find it.
    """
    share = num_differing / num_items

    def excess(loss: float) -> float:
        return mcnemar_power(num_items, share + loss, loss, alpha) - power

    return _root(excess, 1 - share)


def detectable_weighted(
    sum_squares: float, share_squares: float, alpha: float, power: float = 0.8
) -> float | None:
    """Return the smallest true difference that the sign-flip test of weighted items or clusters finds.

    The sum of the contributions with random signs is taken to be normally distributed.

    Args:
        sum_squares: Sum of the squared contributions of the clusters to the observed difference.
        share_squares: Sum of the clusters' squared shares of the total weight.
        alpha: Level of the test.
        power: Chance with which the test finds the difference.

    Returns:
        The difference, or None: no difference can be shown.
    """
    if not sum_squares:
        return None
    spread, normal = math.sqrt(sum_squares), NormalDist()
    critical = -normal.inv_cdf(alpha / 2) * spread
    largest = spread / math.sqrt(share_squares)  # then all clusters differ alike

    def excess(difference: float) -> float:
        error = math.sqrt(max(sum_squares - difference**2 * share_squares, 1e-12 * sum_squares))
        return normal.cdf((difference - critical) / error) - power

    return _root(excess, largest)


def mcnemar_power(num_items: int, share: float, difference: float, alpha: float) -> float:
    """Return the chance that the exact McNemar test finds a true difference.

    Args:
        num_items: Items of the comparison.
        share: Share of items that flip.
        difference: Share of items gained minus share of items lost.
        alpha: Level of the test.
    """
    share = min(share, 1.0)
    centre, spread = num_items * share, math.sqrt(num_items * share * (1 - share))
    first = max(0, math.floor(centre - _REACH * spread - 2))
    last = min(num_items, math.ceil(centre + _REACH * spread + 2))
    flips = np.arange(first, last + 1)
    chances = _binomial_chances(flips, num_items, share)
    critical = _critical_counts(first, last, alpha)
    gained = min(1.0, (1 + difference / share) / 2) if share else 0.5
    chances_to_show = _tail(critical, flips, gained) + _tail(critical, flips, 1 - gained)
    return float(chances @ chances_to_show)


def _binomial_chances(counts: NDArray[np.int64], total: int, share: float) -> Floats:
    if share in (0.0, 1.0):
        return np.asarray(counts == round(total * share), dtype=np.float64)
    logarithm = (
        special.gammaln(total + 1)
        - special.gammaln(counts + 1)
        - special.gammaln(total - counts + 1)
        + special.xlogy(counts, share)
        + special.xlog1py(total - counts, -share)
    )
    chances: Floats = np.exp(logarithm)
    return chances


@lru_cache(maxsize=1024)
def _critical_counts(first: int, last: int, alpha: float) -> NDArray[np.int64]:
    """Return, for each number of flips from `first` to `last`, the fewest gains at which the test rejects.

    The test is the exact McNemar test at level `alpha`. Flips + 1 stands for never.
    """
    flips = np.arange(first, last + 1)
    guess = special.bdtrik(1 - alpha / 2, np.maximum(flips, 1), 0.5)
    critical: NDArray[np.int64] = np.minimum(np.ceil(guess).astype(np.int64), flips + 1)
    critical = np.maximum(critical, 0)
    for _ in range(3):  # the inverse is rounded: step to the exact count
        critical = np.where(
            _p_values(critical, flips) >= alpha, np.minimum(critical + 1, flips + 1), critical
        )
        lower = np.maximum(critical - 1, 0)
        critical = np.where(_p_values(lower, flips) < alpha, lower, critical)
    return critical


def _p_values(gains: NDArray[np.int64], flips: NDArray[np.int64]) -> Floats:
    """Return the exact McNemar test's two-sided p-values of `gains` gained items among `flips`.

    Gains must be at least half of the flips; of more gains than flips the p-value is 0.
    """
    return np.minimum(1.0, 2 * _tail(gains, flips, 0.5))


def _tail(counts: NDArray[np.int64], totals: NDArray[np.int64], share: float) -> Floats:
    """Return P(X >= count) for X ~ Binomial(total, share), elementwise."""
    inside = special.betainc(np.maximum(counts, 1), np.maximum(totals - counts + 1, 1e-9), share)
    return np.where(counts <= 0, 1.0, np.where(counts > totals, 0.0, inside))


def _root(excess: Callable[[float], float], largest: float) -> float | None:
    """Return the difference between 0 and `largest` at which the power reaches its goal; None: nowhere.

    Args:
        excess: Power minus its goal at a difference.
        largest: Largest difference.
    """
    if largest <= 0 or excess(largest) < 0:
        return None
    return float(brentq(excess, 0.0, largest, xtol=1e-6))
