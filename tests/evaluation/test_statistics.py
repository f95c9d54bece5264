"""Numbers from scipy 1.17.1 and statsmodels; where a library gave a constant, the call stands beside it."""

import math

import numpy as np
import pytest
from scipy import stats

from workbench.evaluation.metrics import statistics as st


def test_wilson_interval_equals_scipy():
    for successes, total in [(0, 7), (3, 7), (7, 7), (130, 610), (6000, 11582)]:
        expected = stats.binomtest(successes, total).proportion_ci(0.95, method="wilson")
        assert st.wilson(successes, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_stderr_equals_scipy_sem():
    scores = np.random.default_rng(1).normal(size=50).tolist()
    assert st.stderr(scores) == pytest.approx(stats.sem(scores), rel=1e-12)


def test_the_stderr_of_one_item_is_zero():
    assert st.stderr([1.0]) == 0.0


def test_exact_mcnemar_is_the_sum_over_the_binomial_distribution():
    for wins, losses in [(1, 0), (0, 5), (3, 12), (12, 3), (40, 71), (900, 1100)]:
        few, total = min(wins, losses), wins + losses
        expected = 2 * sum(math.comb(total, count) for count in range(few + 1)) / 2**total
        assert st.mcnemar(wins, losses) == pytest.approx(min(1.0, expected), rel=1e-9)
    assert st.mcnemar(0, 0) == st.mcnemar(5, 5) == 1.0


def test_means_of_few_distinct_values_are_resampled_as_those_of_many():
    rng = np.random.default_rng(3)
    values = rng.choice([-1.0, 0.0, 1.0], size=400, p=[0.1, 0.7, 0.2])
    few = st._resampled_means(values, 20000)
    many = st._resampled_means(values + rng.normal(0, 1e-9, 400), 20000)
    assert few.mean() == pytest.approx(many.mean(), abs=1e-3)
    assert few.std() == pytest.approx(many.std(), rel=0.03)
    assert np.quantile(few, [0.025, 0.975]) == pytest.approx(np.quantile(many, [0.025, 0.975]), abs=3e-3)


def test_bootstrap_interval_is_near_scipys():
    scores = np.random.default_rng(2).gamma(2.0, size=400)
    expected = stats.bootstrap(
        (scores,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert st.bootstrap(scores.tolist(), samples=20000) == pytest.approx(
        (expected.low, expected.high), abs=0.01
    )


def test_intervals_are_the_same_on_every_call_and_leave_the_global_generator_alone():
    scores = np.random.default_rng(4).normal(size=100).tolist()
    state = np.random.get_state()[1].tolist()
    assert st.bootstrap(scores) == st.bootstrap(scores)
    assert np.random.get_state()[1].tolist() == state


def test_sign_flip_agrees_with_scipys_permutation_test():
    differences = np.random.default_rng(5).normal(0.25, 1, size=60)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20000, rng=np.random.default_rng(6)
    ).pvalue
    assert st.sign_flip(differences.tolist(), 20000) == pytest.approx(expected, abs=0.01)


def test_wilson_and_mcnemar_equal_statsmodels():
    # statsmodels 0.15.0: proportion_confint(130, 610, method="wilson"),
    # mcnemar([[10, b], [c, 20]], exact=True).pvalue
    assert st.wilson(130, 610) == pytest.approx((0.18246505684425154, 0.24735514351755458), abs=1e-12)
    assert st.mcnemar(3, 12) == pytest.approx(0.03515625, rel=1e-12)
    assert st.mcnemar(40, 71) == pytest.approx(0.004195534185394861, rel=1e-9)
    assert st.mcnemar(0, 5) == pytest.approx(0.0625, rel=1e-12)


def test_holm_equals_statsmodels():
    # statsmodels 0.15.0: multipletests([0.01, 0.04, 0.03, 0.005, 0.6], method="holm")[1]
    assert st.holm([0.01, 0.04, 0.03, 0.005, 0.6]) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.6])
    assert st.holm([]) == []


def test_detectable_difference_equals_the_textbook_formula():
    # statsmodels 0.15.0: NormalIndPower().solve_power(nobs1=400, alpha=0.05, power=0.8, ratio=0)
    assert st.detectable_difference(400, 1.0) == pytest.approx(0.14007841673292368, abs=1e-5)


def test_a_paired_comparison_of_right_and_wrong_counts_wins_and_losses():
    result = st.compare([0, 0, 0, 1, 1, 0], [1, 1, 0, 1, 0, 1])
    assert (result.wins, result.losses, result.test) == (3, 1, "mcnemar-exact")
    assert result.difference == pytest.approx(2 / 6)
    assert result.p_value == pytest.approx(stats.binomtest(1, 4).pvalue)
    assert result.interval[0] <= result.difference <= result.interval[1]


def test_a_model_compared_with_itself_differs_by_nothing():
    result = st.compare([0.5, 0.25, 1.0], [0.5, 0.25, 1.0])
    assert (result.difference, result.p_value, result.effect) == (0.0, 1.0, 0.0)


def test_comparing_different_numbers_of_items_is_refused():
    with pytest.raises(ValueError, match="same items"):
        st.compare([1.0], [1.0, 0.0])


def test_macro_errors_treat_subsets_as_fixed():
    rng = np.random.default_rng(7)
    subsets = {"a": rng.integers(0, 2, 40).astype(float).tolist(), "b": rng.normal(size=9).tolist()}
    by_hand = np.sqrt(stats.sem(subsets["a"]) ** 2 + stats.sem(subsets["b"]) ** 2) / 2
    assert st.macro_stderr(subsets) == pytest.approx(by_hand)
    low, high = st.macro_interval(subsets, samples=20000)
    assert (high - low) / (2 * 1.96) == pytest.approx(by_hand, rel=0.1)


def test_subsets_of_one_item_have_the_error_of_all_items_together():
    scores = np.random.default_rng(10).integers(0, 2, 67).astype(float).tolist()
    subsets = {str(number): [score] for number, score in enumerate(scores)}
    assert st.macro_stderr(subsets) == pytest.approx(stats.sem(scores))
    assert st.macro_interval(subsets) == pytest.approx(st.wilson(sum(scores), 67), abs=0.01)
    graded = {str(number): [value] for number, value in enumerate(np.random.default_rng(11).normal(size=67))}
    low, high = st.macro_bootstrap(graded, samples=20000)
    assert (high - low) / (2 * 1.96) == pytest.approx(st.macro_stderr(graded), rel=0.05)


@pytest.mark.parametrize("sizes", [[1] * 60, [2] * 60, [1, 1, 1, 5, 5, 10, 40, 40]])
def test_macro_intervals_hold_the_truth_in_95_of_100_cases(sizes):
    rng = np.random.default_rng(12)
    hits = {st.macro_interval: 0, st.macro_bootstrap: 0}
    for _ in range(200):
        truth = rng.uniform(0.1, 0.9, len(sizes))
        drawn = [(rng.random(n) < p).astype(float).tolist() for n, p in zip(sizes, truth, strict=True)]
        for interval in hits:
            low, high = interval({str(k): some for k, some in enumerate(drawn)}, samples=300)
            hits[interval] += low <= truth.mean() <= high
    assert min(hits.values()) >= 182


def test_all_right_in_every_subset_is_not_certain():
    low, high = st.macro_interval({"a": [1.0] * 5, "b": [1.0] * 5})
    assert (low, high) == pytest.approx(st.wilson(10, 10)) and low < 0.8


def test_where_no_item_differs_the_interval_is_as_wide_as_none_in_so_many_allows():
    result = st.compare([1.0, 0.0] * 7, [1.0, 0.0] * 7)
    assert result.interval == pytest.approx((-st.wilson(0, 14)[1], st.wilson(0, 14)[1]))
    assert result.detectable == pytest.approx(st.detectable_difference(1, 1 / 14))


def test_a_macro_comparison_weighs_items_by_their_subset():
    # One large subset gets better, ten small ones get worse: the mean of means falls.
    subsets = ["large"] * 100 + [f"small {number}" for number in range(10) for _ in range(4)]
    first = [0.0] * 100 + [1.0] * 40
    second = [1.0] * 40 + [0.0] * 60 + [0.0, 0.0, 0.0, 1.0] * 10
    micro, macro = st.compare(first, second), st.compare(first, second, subsets=subsets)
    assert micro.difference > 0 > macro.difference
    assert macro.difference == pytest.approx((0.4 - 10 * 0.75) / 11)
    assert macro.test == "sign-flip" and macro.p_value < 0.001
    assert macro.interval[0] < macro.difference < macro.interval[1] < 0
    even = st.compare(first[:40], second[20:60], subsets=["a"] * 20 + ["b"] * 20)
    assert even.test == "mcnemar-exact"


def test_over_2000_equal_pairs_exact_mcnemar_rejects_at_most_5_percent():
    rng = np.random.default_rng(8)
    rejected = 0
    for _ in range(2000):
        skill = rng.uniform(0.2, 0.9, size=1000)
        first, second = rng.random(1000) < skill, rng.random(1000) < skill
        wins, losses = int((second & ~first).sum()), int((first & ~second).sum())
        rejected += st.mcnemar(wins, losses) < 0.05
    assert rejected <= stats.binom.ppf(0.999, 2000, 0.05)


def test_over_2000_equal_pairs_the_permutation_test_is_uniform():
    rng = np.random.default_rng(9)
    p_values = [st.sign_flip(rng.standard_t(4, size=40).tolist(), 400) for _ in range(2000)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_where_all_items_are_won_the_interval_is_no_point():
    found = st.compare([0.0] * 5, [1.0] * 5)
    low, high = found.interval
    assert low == pytest.approx(1 - 2 * st.wilson(0, 5)[1]) and high == 1.0
    assert found.effect == math.inf
