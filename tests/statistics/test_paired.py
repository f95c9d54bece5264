"""Paired tests against scipy, by hand, and in simulation; a verdict is the interval that excludes 0."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from workbench.errors import DataError
from workbench.statistics.binary_pairs import compare_flips, count_flips
from workbench.statistics.paired import compare_paired


def scores_with(gained, lost, num_items):
    """Scores of two models, of which the second gains and loses so many items."""
    first = [0.0] * gained + [1.0] * lost + [1.0] * (num_items - gained - lost)
    second = [1.0] * gained + [0.0] * lost + [1.0] * (num_items - gained - lost)
    return first, second


@pytest.mark.parametrize(("gained", "lost"), [(3, 1), (0, 5), (12, 3), (40, 71), (900, 1100)])
@pytest.mark.parametrize("alpha", [0.05, 0.03 / 660])
def test_right_or_wrong_items_take_scipys_exact_test_and_its_interval_with_that_of_the_flips(
    gained, lost, alpha
):
    found = compare_paired(*scores_with(gained, lost, 2100), alpha=alpha)
    flips = gained + lost
    test = stats.binomtest(gained, flips)
    assert found.p_value == pytest.approx(test.pvalue, rel=1e-9)
    given_flips = [(2 * share - 1) * flips / 2100 for share in test.proportion_ci(1 - alpha, method="exact")]
    wilson = stats.binomtest(flips, 2100).proportion_ci(1 - alpha, method="wilson")
    sign = 1 if gained > lost else -1
    size, (near, far) = abs(gained - lost) / 2100, sorted(sign * end for end in given_flips)
    more = wilson.high / (flips / 2100) - 1
    far = size + math.hypot(far - size, far * more)
    if near <= 0:
        near = size - math.hypot(size - near, near * more)
    else:
        near = size * math.exp(-math.hypot(math.log(size / near), math.log(flips / 2100 / wilson.low)))
    assert (found.low, found.high) == pytest.approx(sorted((sign * near, sign * far)), rel=1e-6)
    assert (found.gained, found.lost, found.test) == (gained, lost, "mcnemar-exact")
    assert found.difference == pytest.approx((gained - lost) / 2100)


def test_exact_mcnemar_equals_statsmodels():
    # statsmodels 0.15.0: mcnemar([[10, b], [c, 20]], exact=True).pvalue
    known = {(3, 12): 0.03515625, (40, 71): 0.004195534185394861, (0, 5): 0.0625}
    for (gained, lost), expected in known.items():
        assert compare_paired(*scores_with(gained, lost, 200)).p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.25, 0.0625, 0.05, 0.01, 0.03 / 66, 2**-15, 1e-6])
def test_the_exact_interval_excludes_zero_exactly_where_the_test_rejects(alpha):
    gained, lost = np.meshgrid(np.arange(61), np.arange(61))
    found = compare_flips(gained, lost, 500, alpha)
    assert ((found.low > 0) | (found.high < 0)).tolist() == (found.p_value < alpha).tolist()
    assert (found.low <= found.difference).all() and (found.difference <= found.high).all()


@pytest.mark.parametrize("alpha", [0.05, 0.03 / 9, 0.03 / 60])
@pytest.mark.parametrize(
    ("num_items", "flipped"), [(30, 0.1), (30, 0.5), (100, 0.03), (100, 0.3), (400, 0.1)]
)
def test_the_interval_of_right_or_wrong_items_covers_the_truth_as_often_as_it_says(num_items, flipped, alpha):
    counts = np.stack(np.meshgrid(np.arange(num_items + 1), np.arange(num_items + 1)), axis=-1).reshape(-1, 2)
    gained, lost = counts[counts.sum(axis=1) <= num_items].T
    found = compare_flips(gained, lost, num_items, alpha)
    equal = num_items - gained - lost
    for share in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0):
        shares = [flipped * share, flipped * (1 - share), 1 - flipped]
        chances = stats.multinomial.pmf(np.stack([gained, lost, equal], axis=1), num_items, shares)
        difference = shares[0] - shares[1]
        holds = (found.low <= difference + 1e-12) & (difference - 1e-12 <= found.high)
        assert chances[holds].sum() >= 1 - alpha


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.01, 1e-4])
def test_the_sign_flip_interval_excludes_zero_exactly_where_the_test_rejects(alpha):
    rng = np.random.default_rng(1)
    for _ in range(60):
        differences = rng.integers(-3, 5, 40) * rng.choice([1.0, 0.1])
        found = compare_paired(np.zeros(40), differences, alpha=alpha)
        assert (found.sign != 0) == (found.p_value < alpha)
        assert found.low <= found.difference <= found.high


def test_all_pairs_of_models_are_counted_at_once():
    outcomes = np.random.default_rng(2).integers(0, 2, (5, 40))
    flips = count_flips(outcomes)
    for i, j in itertools.product(range(5), repeat=2):
        assert flips.gained[i, j] == np.sum(outcomes[j] > outcomes[i])
        assert flips.lost[i, j] == np.sum(outcomes[j] < outcomes[i])


def test_items_that_one_of_two_models_was_not_asked_are_not_counted():
    flips = count_flips([[1, 0, 1], [0, 1, 0]], [[True, True, True], [True, False, True]])
    assert (flips.gained[0, 1], flips.lost[0, 1], flips.num_items[0, 1]) == (0, 2, 2)


def test_where_no_item_differs_the_interval_is_what_so_many_equal_items_allow():
    found = compare_paired([1.0, 0.0] * 7, [1.0, 0.0] * 7)
    upper = stats.binomtest(0, 14).proportion_ci(0.95, method="exact").high
    assert (found.low, found.high) == pytest.approx((-upper, upper))
    assert found.p_value == 1.0 and found.sign == 0


@pytest.mark.parametrize("step", [1.0, 0.1, 1 / 3])
def test_the_sign_flip_test_of_few_clusters_is_the_sum_over_all_signs(step):
    differences = np.array([3, -1, 2, 2, -1, 1, 4, -2, 1, 1, 3, 1]) * step
    signs = np.array(list(itertools.product([-1, 1], repeat=12)))
    sums = np.abs(signs @ differences)
    expected = (sums >= abs(differences.sum()) - 1e-9).mean()
    assert compare_paired(np.zeros(12), differences).p_value == pytest.approx(expected, rel=1e-9)


def test_the_sign_flip_test_of_single_right_or_wrong_items_is_mcnemars():
    first, second = scores_with(40, 71, 150)
    found = compare_paired([score / 2 for score in first], [score / 2 for score in second])
    assert found.test == "sign-flip-exact"
    assert found.p_value == pytest.approx(stats.binomtest(40, 111).pvalue, rel=1e-9)


def test_tiny_p_values_are_exact_too():
    found = compare_paired(np.zeros(60), np.array([2.0] * 52 + [-2.0] * 8))
    assert found.p_value == pytest.approx(stats.binomtest(8, 60).pvalue, rel=1e-4)
    assert found.p_value < 1e-8


def test_the_sign_flip_test_of_real_numbers_agrees_with_scipys_permutation_test():
    differences = np.random.default_rng(5).normal(0.25, 1, size=16)
    expected = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert compare_paired(np.zeros(16), differences).p_value == pytest.approx(expected, abs=0.002)


def test_the_interval_of_real_numbers_is_near_students():
    differences = np.random.default_rng(6).normal(0.3, 1, size=60)
    found = compare_paired(np.zeros(60), differences)
    expected = stats.ttest_1samp(differences, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.005)
    assert found.stderr == pytest.approx(stats.sem(differences))


def test_clusters_of_copied_items_count_once():
    rng = np.random.default_rng(7)
    first, second = rng.integers(0, 2, (2, 50)).astype(float)
    once = compare_paired(first, second)
    tenfold = compare_paired(
        np.repeat(first, 10), np.repeat(second, 10), clusters=np.repeat(np.arange(50), 10)
    )
    assert tenfold.p_value == pytest.approx(once.p_value, rel=1e-9)
    assert (tenfold.num_clusters, tenfold.num_items) == (50, 500)


def test_clusters_of_one_item_change_nothing():
    first, second = scores_with(20, 8, 100)
    assert compare_paired(first, second, clusters=[f"text {n}" for n in range(100)]) == compare_paired(
        first, second
    )


def test_under_ten_differing_clusters_there_is_no_verdict():
    first, second = [0.0] * 90 + [1.0] * 30, [1.0] * 90 + [1.0] * 30
    found = compare_paired(first, second, clusters=np.arange(120) // 10)
    assert (found.num_differing, found.reason, found.sign) == (9, "too few clusters differ", 0)
    assert math.isnan(found.p_value) and math.isnan(found.low) and found.difference == 0.75


def test_where_nothing_differs_the_reason_says_so():
    scores = np.linspace(0, 1, 120)
    assert compare_paired(scores, scores, clusters=np.arange(120) // 10).reason == "no cluster differs"
    assert compare_paired(scores, scores).reason == "no item differs"
    assert compare_paired(scores, [1.0, *scores[1:]]).reason == "too few items differ"


def test_a_macro_comparison_weighs_items_by_their_subset():
    # One large subset gets better, ten small ones get worse: the mean of means falls.
    subsets = ["large"] * 100 + [f"small {number}" for number in range(10) for _ in range(4)]
    first = [0.0] * 100 + [1.0] * 40
    second = [1.0] * 40 + [0.0] * 60 + [0.0, 0.0, 0.0, 1.0] * 10
    micro, macro = compare_paired(first, second), compare_paired(first, second, subsets=subsets)
    assert micro.difference > 0 > macro.difference
    assert macro.difference == pytest.approx((0.4 - 10 * 0.75) / 11)
    assert macro.test == "sign-flip-exact" and macro.p_value < 0.001 and macro.sign == -1
    even = compare_paired(first[:40], second[20:60], subsets=["a"] * 20 + ["b"] * 20)
    assert even.test == "mcnemar-exact"


def test_where_all_clusters_gain_the_same_the_interval_is_no_point():
    found = compare_paired(np.zeros(60), np.ones(60), clusters=np.arange(60) // 5)
    assert found.low == pytest.approx(2 * 0.025 ** (1 / 12) - 1) and found.high == 1.0


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="score nan of the second model's item 2"):
        compare_paired([1.0, 0.0], [1.0, math.nan])


def test_comparing_different_numbers_of_items_is_refused():
    with pytest.raises(DataError, match="same items"):
        compare_paired([1.0], [1.0, 0.0])


def rejected(draw, trials=400, alpha=0.05, **options):
    """Number of simulated comparisons of equal models with a verdict."""
    return sum(compare_paired(*draw(), alpha=alpha, **options).sign != 0 for _ in range(trials))


def of_shared_luck(rng, num_clusters, size):
    """Two equal models whose items of a cluster are right or wrong together."""
    return lambda: np.repeat(rng.integers(0, 2, (2, num_clusters)), size, axis=1)


def test_equal_models_with_ten_questions_a_text_differ_in_at_most_5_percent():
    draw = of_shared_luck(np.random.default_rng(8), 60, 10)
    assert rejected(draw, clusters=np.repeat(np.arange(60), 10)) <= stats.binom.ppf(0.999, 400, 0.05)


def test_without_clusters_the_same_models_would_differ_in_a_third_of_cases():
    # that is why clusters matter: this is the error that they mend
    draw = of_shared_luck(np.random.default_rng(9), 60, 10)
    assert rejected(draw) > 100


def test_equal_models_differ_in_at_most_5_percent_of_macro_means():
    rng = np.random.default_rng(10)
    subsets = np.repeat(np.arange(12), rng.integers(3, 40, 12))
    skill = rng.uniform(0.2, 0.9, len(subsets))
    found = rejected(lambda: (rng.random((2, len(subsets))) < skill).astype(float), subsets=subsets)
    assert found <= stats.binom.ppf(0.999, 400, 0.05)


@pytest.mark.parametrize("true", [0.0, 0.1, 0.3])
def test_intervals_of_clusters_hold_the_true_difference_in_95_of_100_cases(true):
    rng = np.random.default_rng(11)
    clusters = np.repeat(np.arange(80), 4)
    hits = 0
    for _ in range(300):
        luck = np.repeat(rng.uniform(-0.3, 0.3, 80), 4)  # of the second model with each text
        first, second = rng.random(320) < 0.35, rng.random(320) < 0.35 + true + luck
        found = compare_paired(first.astype(float), second.astype(float), clusters=clusters)
        hits += found.low <= true <= found.high
    assert hits >= 272  # 0.1% of 300 draws at 95% lie below


def test_the_interval_of_clusters_covers_the_truth_where_few_of_them_differ_and_in_one_direction():
    num_clusters, items, gain, alpha, draws = 200, 5, 0.06, 0.01, 400
    rng = np.random.default_rng(7)
    clusters = np.repeat(np.arange(num_clusters), items)
    first = np.zeros(num_clusters * items)
    misses = 0
    for _ in range(draws):
        together = np.repeat(rng.random(num_clusters) < gain, items)
        alone = rng.random(num_clusters * items) < gain
        second = np.where(clusters % 2 == 0, together, alone).astype(float)
        test = compare_paired(first, second, alpha=alpha, clusters=clusters)
        misses += not test.low <= gain <= test.high
    assert misses <= stats.binom.ppf(0.99, draws, alpha)
