"""The detectable difference against sums by scipy, the textbook, and the test itself in simulation."""

import numpy as np
import pytest
from scipy import stats

from workbench.statistics.binary_pairs import compare_flips
from workbench.statistics.paired import compare_paired
from workbench.statistics.power import (
    detectable,
    detectable_damage,
    detectable_difference,
    detectable_weighted,
    mcnemar_power,
)


def test_the_power_is_scipys_sum_over_all_flips():
    num_items, share, difference, alpha = 60, 0.3, 0.15, 0.05
    expected = 0.0
    for flips in range(1, num_items + 1):
        gains = np.arange(flips + 1)
        rejects = np.array([stats.binomtest(int(k), flips).pvalue < alpha for k in gains])
        chances = stats.binom.pmf(gains, flips, (1 + difference / share) / 2)
        expected += stats.binom.pmf(flips, num_items, share) * chances[rejects].sum()
    assert mcnemar_power(num_items, share, difference, alpha) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("num_pairs", "points"), [(1, 7.0), (66, 10.4), (199, 11.0), (19900, 13.4), (796000, 15.1)]
)
def test_the_price_of_a_family_in_points(num_pairs, points):
    assert 100 * detectable_difference(500, 150, 0.05 / num_pairs) == pytest.approx(points, abs=0.1)


@pytest.mark.parametrize(
    ("num_items", "share", "num_tests"), [(300, 0.3, 1), (500, 0.1, 66), (1346, 0.5, 660)]
)
def test_a_planted_detectable_difference_is_found_in_4_of_5_cases(num_items, share, num_tests):
    alpha = 0.03 / num_tests
    planted = detectable_difference(num_items, round(num_items * share), alpha)
    gained = (share + planted) / 2
    drawn = np.random.default_rng(1).multinomial(num_items, [gained, share - gained, 1 - share], 10000)
    found = compare_flips(drawn[:, 0], drawn[:, 1], num_items, alpha)
    assert 7868 <= int((found.low > 0).sum()) <= 8132  # 99.9% of 10,000 draws at 80%


def test_no_difference_can_be_shown_with_too_few_flips():
    assert detectable_difference(500, 5, 0.05) is None
    assert detectable_difference(500, 0, 0.05) is None
    assert detectable_difference(500, 9, 0.05) is not None


def test_a_planted_detectable_damage_is_found_in_4_of_5_cases():
    num_items, alpha = 120, 0.01 / 67
    damage = detectable_damage(num_items, 24, alpha)
    drawn = np.random.default_rng(2).multinomial(num_items, [0.1, 0.1 + damage, 0.8 - damage], 1000)
    found = compare_flips(drawn[:, 0], drawn[:, 1], num_items, alpha)
    assert 767 <= int((found.high < 0).sum()) <= 832


def test_damage_is_detectable_where_nothing_flips_otherwise():
    assert detectable_damage(100, 0, 0.01) == pytest.approx(0.1, abs=0.05)
    assert detectable_damage(3, 0, 0.01) is None


def test_the_normal_power_of_weights_is_near_the_exact_one():
    exact = detectable_difference(4000, 800, 1e-4)
    assert detectable_weighted(800 / 4000**2, 1 / 4000, 1e-4) == pytest.approx(exact, abs=0.001)


def test_a_planted_detectable_difference_of_clusters_is_found_in_4_of_5_cases():
    rng, size, alpha = np.random.default_rng(3), 3, 0.01
    clusters = np.repeat(np.arange(200), size)

    def drawn(difference):
        signs = rng.choice([1, -1, 0], size=200, p=[0.15 + difference / 2, 0.15 - difference / 2, 0.7])
        flips = np.repeat(signs, size)
        return (flips < 0).astype(float), (flips > 0).astype(float)

    planted = detectable(compare_paired(*drawn(0.0), clusters=clusters, alpha=alpha))
    share = detectable_weighted(60 / 200**2, 1 / 200, alpha)
    assert planted == pytest.approx(share, rel=0.2)  # the observed share of flips is random
    found = sum(compare_paired(*drawn(share), clusters=clusters, alpha=alpha).sign > 0 for _ in range(300))
    assert 219 <= found <= 262  # 99% of 300 draws at 80%, and the normal approximation
