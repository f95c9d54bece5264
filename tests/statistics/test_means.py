"""Means over benchmarks, forgetting, ratios of sums, and audits."""

import math

import numpy as np
import pytest
from scipy import stats

from workbench.config.audit import AuditConfig
from workbench.errors import DataError
from workbench.statistics.audit import most_that_differ
from workbench.statistics.means import Column, compare_means, mean_of_scores, normalised
from workbench.statistics.ratio import compare_ratio


def test_guessing_is_zero_and_all_right_is_one():
    assert normalised(0.25, 0.25) == 0.0 and normalised(1.0, 0.25) == 1.0
    assert normalised(0.1, 0.25) == pytest.approx(-0.2)


def test_a_benchmark_that_guessing_solves_has_no_mean():
    with pytest.raises(DataError, match="score of guessing is 1"):
        compare_means([Column(first=[1.0], second=[1.0], chance=1.0)])


def test_the_error_of_a_mean_by_hand():
    value, error = mean_of_scores([0.5, 0.4], [0.02, 0.03], [0.25, 0.0])
    assert value == pytest.approx((1 / 3 + 0.4) / 2)
    assert error == pytest.approx(math.sqrt((0.02 / 0.75) ** 2 + 0.03**2) / 2)


def columns_with(rng, sizes, differences, share=0.2, **options):
    """Benchmarks on which the second model differs by so much, with a share of items that flip."""
    columns = []
    for size, difference in zip(sizes, differences, strict=True):
        flips = rng.choice(
            [1, -1, 0], size, p=[(share + difference) / 2, (share - difference) / 2, 1 - share]
        )
        columns.append(Column(first=(flips < 0).astype(float), second=(flips > 0).astype(float), **options))
    return columns


def test_the_difference_of_means_is_the_mean_of_normalised_differences():
    rng = np.random.default_rng(1)
    columns = columns_with(rng, [100, 400], [0.1, 0.05])
    columns[1] = Column(
        first=columns[1].first, second=columns[1].second, chance=0.25, subsets=["a"] * 90 + ["b"] * 310
    )
    change = np.asarray(columns[1].second) - np.asarray(columns[1].first)
    macro = (change[:90].mean() + change[90:].mean()) / 2
    expected = (np.mean(np.asarray(columns[0].second) - np.asarray(columns[0].first)) + macro / 0.75) / 2
    assert compare_means(columns).difference == pytest.approx(expected)


def test_equal_models_differ_in_at_most_5_percent_of_means():
    rng = np.random.default_rng(2)
    rejected = sum(
        compare_means(columns_with(rng, [50, 200, 400], [0, 0, 0], chance=0.25)).sign != 0 for _ in range(200)
    )
    assert rejected <= stats.binom.ppf(0.999, 200, 0.05)


def test_forgetting_two_points_on_seven_benchmarks_is_found_in_9_of_10_cases():
    rng, found = np.random.default_rng(3), 0
    for _ in range(60):
        columns = columns_with(rng, [1000] * 8, [0.1] + [-0.02] * 7, share=0.14)
        found += compare_means(columns[1:], alpha=0.01).sign < 0  # the first one was trained for
    assert found >= 54


def test_the_error_of_bits_per_byte_is_near_the_jackknifes():
    rng = np.random.default_rng(4)
    sizes = rng.integers(20, 400, 80)
    first = sizes * rng.gamma(20, 0.05, 80)
    second = first + sizes * rng.normal(0.02, 0.05, 80)
    keep = ~np.eye(80, dtype=bool)
    without = [(second[k] - first[k]).sum() / sizes[k].sum() for k in keep]
    jackknife = np.sqrt(79 / 80 * np.sum((without - np.mean(without)) ** 2))
    found = compare_ratio(first, second, sizes)
    assert found.difference == pytest.approx((second.sum() - first.sum()) / sizes.sum())
    assert found.stderr == pytest.approx(jackknife, rel=0.05)


def test_ratios_of_equal_sizes_take_students_test():
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(2, 40))
    found = compare_ratio(first, second, np.full(40, 10.0))
    assert found.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue)
    expected = stats.ttest_rel(second, first).confidence_interval()
    assert (10 * found.low, 10 * found.high) == pytest.approx((expected.low, expected.high))


def test_an_infinite_loglikelihood_is_refused():
    with pytest.raises(DataError, match="not a finite number"):
        compare_ratio([1.0, math.inf], [1.0, 1.0], [3, 4])


def test_200_equal_items_leave_171_of_11582_that_may_differ():
    assert most_that_differ(200, 11582) == 171
    assert stats.hypergeom.pmf(0, 11582, 170, 200) > 0.05 >= stats.hypergeom.pmf(0, 11582, 171, 200)


def test_a_full_audit_leaves_nothing_open():
    assert most_that_differ(50, 50) == 0 and most_that_differ(50, 50, 3) == 3


def test_the_bound_holds_in_95_of_100_audits():
    found = np.random.default_rng(6).hypergeometric(30, 970, 100, size=2000)
    bounds = {int(count): most_that_differ(100, 1000, int(count)) for count in set(found.tolist())}
    assert sum(bounds[int(count)] >= 30 for count in found) >= 1867  # 0.1% of 2,000 draws lie below


def test_two_percent_wrong_answers_are_found_in_98_of_100_audits():
    sample = AuditConfig().items  # the key's text promises it
    assert stats.hypergeom.sf(0, 11582, 232, sample) == pytest.approx(0.983, abs=0.001)
