"""Numbers from scipy 1.17.1 and statsmodels; where a library gave a constant, the call stands beside it."""

import numpy as np
import pytest
from scipy import stats

from workbench.statistics import intervals as st


def test_wilson_interval_equals_scipy():
    for successes, total in [(0, 7), (3, 7), (7, 7), (130, 610), (6000, 11582)]:
        expected = stats.binomtest(successes, total).proportion_ci(0.95, method="wilson")
        assert st.wilson(successes, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_stderr_equals_scipy_sem():
    scores = np.random.default_rng(1).normal(size=50).tolist()
    assert st.stderr(scores) == pytest.approx(stats.sem(scores), rel=1e-12)


def test_wilson_interval_equals_statsmodels():
    # statsmodels 0.15.0: proportion_confint(130, 610, method="wilson")
    assert st.wilson(130, 610) == pytest.approx((0.18246505684425154, 0.24735514351755458), abs=1e-12)


def test_the_stderr_of_one_item_is_zero():
    assert st.stderr([1.0]) == 0.0


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


def test_the_stderr_of_clusters_of_one_item_is_the_usual_one():
    scores = np.random.default_rng(20).normal(size=50)
    assert st.cluster_stderr(scores, range(50)) == pytest.approx(stats.sem(scores), rel=1e-12)


def test_the_stderr_of_equal_clusters_is_that_of_their_means():
    scores = np.random.default_rng(21).normal(size=(30, 4))
    clusters = np.repeat(np.arange(30), 4)
    assert st.cluster_stderr(scores.ravel(), clusters) == pytest.approx(stats.sem(scores.mean(axis=1)))


def test_the_interval_of_equal_clusters_of_graded_scores_is_scipys_of_their_means():
    scores = np.random.default_rng(22).gamma(2.0, size=(12, 5))
    found = st.cluster_interval(scores.ravel(), np.repeat(np.arange(12), 5))
    expected = stats.ttest_1samp(scores.mean(axis=1), 0).confidence_interval()
    assert found == pytest.approx((expected.low, expected.high))


def test_all_right_in_every_cluster_is_as_uncertain_as_so_many_items():
    low, high = st.cluster_interval([1.0] * 60, np.repeat(np.arange(20), 3))
    assert high == 1.0 and low == pytest.approx(1 / (1 + stats.t.ppf(0.975, 19) ** 2 / 20))


@pytest.mark.parametrize(("num_clusters", "rate"), [(15, 0.5), (40, 0.85), (200, 0.3)])
def test_cluster_intervals_hold_the_truth_in_95_of_100_cases(num_clusters, rate):
    rng = np.random.default_rng(23)
    clusters = np.repeat(np.arange(num_clusters), 6)
    hits = 0
    for _ in range(400):
        luck = rng.beta(4 * rate, 4 * (1 - rate), num_clusters)
        scores = (rng.random(len(clusters)) < luck[clusters]).astype(float)
        low, high = st.cluster_interval(scores, clusters)
        hits += low <= rate <= high
    assert hits >= 367  # 0.1% of 400 draws at 95% lie below
