"""The bound of a loss, against scipy's likelihoods and exact probabilities."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, multinomial, norm

from workbench.statistics.means import Column
from workbench.statistics.non_inferiority import most_lost, most_lost_of_pairs
from workbench.statistics.paired import compare_paired


def column(first, second, **fields):
    return Column(first=first, second=second, **fields)


def score_statistic(lost, gained, num_items, difference):
    """The score statistic at a difference, with the shares found by maximising the likelihood numerically."""

    def loss(share):
        shares = np.array([share + difference, share, 1 - 2 * share - difference])
        return -(
            np.array([lost, gained, num_items - lost - gained]) * np.log(np.maximum(shares, 1e-300))
        ).sum()

    low = max(0.0, -difference)
    share = minimize_scalar(
        loss, bounds=(low, (1 - difference) / 2), method="bounded", options={"xatol": 1e-12}
    ).x
    variance = (2 * share + difference - difference**2) / num_items
    return ((lost - gained) / num_items - difference) / math.sqrt(variance)


@pytest.mark.parametrize("lost, gained, num_items", [(9, 4, 100), (30, 41, 250), (2, 7, 60)])
def test_the_bound_is_where_the_score_test_stops_rejecting(lost, gained, num_items):
    bound = most_lost_of_pairs(lost, gained, num_items)
    assert score_statistic(lost, gained, num_items, bound) == pytest.approx(norm.ppf(0.05), abs=1e-4)


@pytest.mark.parametrize("num_items", [60, 200])
@pytest.mark.parametrize("shares", [(0.015, 0.005), (0.03, 0.01), (0.04, 0.02), (0.03, 0.03), (0.06, 0.03)])
def test_the_true_loss_exceeds_the_bound_with_a_chance_of_at_most_six_in_a_hundred(num_items, shares):
    chance = covered = 0.0
    for lost in range(31):
        for gained in range(31 if lost + 30 <= num_items else 0):
            counts = [lost, gained, num_items - lost - gained]
            probability = multinomial.pmf(counts, num_items, [*shares, 1 - sum(shares)])
            covered += probability
            if probability > 1e-9 and most_lost_of_pairs(lost, gained, num_items) < shares[0] - shares[1]:
                chance += probability
    assert covered > 0.999
    assert chance < 0.06


def test_nothing_lost_leaves_a_bound_that_falls_with_the_items():
    bounds = [most_lost([column([1.0] * count, [1.0] * count)]) for count in (50, 200, 800)]
    quantile = norm.ppf(0.95) ** 2
    assert bounds == pytest.approx([quantile / (count + quantile) for count in (50, 200, 800)], rel=1e-6)


def test_all_lost_is_a_bound_of_one():
    assert most_lost([column([1.0] * 30, [0.0] * 30)]) == 1.0


def test_graded_scores_have_the_end_of_the_paired_tests_interval():
    random = np.random.default_rng(0)
    first, second = random.random((2, 300))
    test = compare_paired(first, second, alpha=0.10)
    assert most_lost([column(first, second)]) == pytest.approx(-test.low)
    assert test.low < test.difference


def test_few_losses_are_counted_by_cluster():
    first = np.full(80, 0.7)
    second = first.copy()
    second[[0, 1, 10]] = 0.2
    clusters = np.arange(80) // 2
    expected = binomtest(2, 40, alternative="less").proportion_ci(0.95, method="exact").high
    assert most_lost([column(first, second, clusters=clusters)]) == pytest.approx(expected)


def test_scores_without_a_largest_value_have_no_bound_from_few_losses():
    assert most_lost([column([-3.0] * 30, [-3.0] * 30)]) == math.inf


def test_two_benchmarks_have_the_bound_of_their_mean():
    random = np.random.default_rng(3)
    pairs = [random.integers(0, 2, (2, 200)) for _ in range(2)]
    bound = most_lost([column(*pair) for pair in pairs])
    losses = [float((first - second).mean()) for first, second in pairs]
    assert np.mean(losses) < bound < np.mean(losses) + 0.15
