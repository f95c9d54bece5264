"""Error rates in whole simulations: boards without differences, planted ones, and early stopping."""

import itertools

import numpy as np
import pytest

from workbench.statistics.binary_pairs import compare_flips, count_flips
from workbench.statistics.family import Family
from workbench.statistics.intervals import cluster_interval, interval
from workbench.statistics.paired import compare_paired
from workbench.statistics.power import detectable_difference
from workbench.statistics.ranks import rank_intervals
from workbench.statistics.sequential import UNDECIDED, SequentialTest

pytestmark = pytest.mark.slow


def answers(rng, num_rows, num_items, shifts=0.0):
    """Right and wrong answers of models to items of different difficulty."""
    skill = rng.uniform(0.3, 0.8, num_items)
    return rng.random((num_rows, num_items)) < np.clip(skill + np.reshape(shifts, (-1, 1)), 0, 1)


def has_verdict(outcomes, alpha):
    """Whether any two rows of a column are shown to differ."""
    flips = count_flips(outcomes)
    found = compare_flips(flips.gained, flips.lost, flips.num_items, alpha)
    return bool((found.low > 0).any())


def test_at_most_67_of_1000_boards_of_equal_models_show_a_difference():
    rng, alpha = np.random.default_rng(1), Family("pairs", 15 * 4).alpha
    false = sum(any(has_verdict(answers(rng, 6, 300), alpha) for _ in range(4)) for _ in range(1000))
    assert false <= 67


def test_at_most_67_of_1000_boards_of_equal_models_with_clusters_show_a_difference():
    rng, alpha = np.random.default_rng(2), Family("pairs", 3).alpha
    clusters, false = np.repeat(np.arange(60), 5), 0
    for _ in range(1000):
        luck = rng.integers(0, 2, (3, 60))[:, clusters]
        outcomes = np.where(rng.random((3, 300)) < 0.7, luck, rng.integers(0, 2, (3, 300)))
        false += any(
            compare_paired(outcomes[i], outcomes[j], alpha=alpha, clusters=clusters).sign
            for i, j in itertools.combinations(range(3), 2)
        )
    assert false <= 67


def test_rank_intervals_hold_all_true_ranks_in_463_of_500_boards_of_twelve_models():
    rng, alpha, held, width = np.random.default_rng(3), Family("pairs", 66).alpha, 0, []
    shifts = np.linspace(0.15, -0.15, 12)
    for _ in range(500):
        flips = count_flips(answers(rng, 12, 1000, shifts))
        found = compare_flips(flips.gained, flips.lost, flips.num_items, alpha)
        ranks = rank_intervals(found.high < 0)
        held += all(best <= rank + 1 <= worst for rank, (best, worst) in enumerate(ranks))
        width += [worst - best + 1 for best, worst in ranks]
    assert held >= 463 and 3 < np.mean(width) < 8


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("num_tests", [1, 60, 660])
def test_the_printed_detectable_difference_is_found_in_767_to_832_of_1000(share, num_tests):
    alpha = Family("pairs", num_tests).alpha
    planted = detectable_difference(1000, round(1000 * share), alpha)
    chances = [(share + planted) / 2, (share - planted) / 2, 1 - share]
    drawn = np.random.default_rng(4).multinomial(1000, chances, 1000)
    assert 767 <= (compare_flips(drawn[:, 0], drawn[:, 1], 1000, alpha).low > 0).sum() <= 832


def test_intervals_that_know_no_clusters_miss_the_truth_and_those_that_do_hold_it():
    rng, clusters, hits = np.random.default_rng(5), np.repeat(np.arange(50), 8), np.zeros(2)
    for _ in range(1000):
        scores = (rng.random(400) < rng.beta(2, 2, 50)[clusters]).astype(float).tolist()
        for index, (low, high) in enumerate([interval(scores), cluster_interval(scores, clusters)]):
            hits[index] += low <= 0.5 <= high
    assert hits[0] < 850 and hits[1] >= 929


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_at_most_123_of_2000_comparisons_of_equal_models_are_decided_early(share):
    rng, size, false = np.random.default_rng(6), 3000, 0
    shares = np.full(size, 1 / size)
    for _ in range(2000):
        test = SequentialTest(shares)
        contributions = rng.choice([1, -1, 0], size, p=[share / 2, share / 2, 1 - share]) / size
        false += test.update(contributions, shares) != UNDECIDED
    assert false <= 123


@pytest.mark.parametrize(
    ("difference", "share", "most"),
    [(0.1, 0.1, 0.05), (0.1, 0.5, 0.05), (0.03, 0.1, 0.25), (0.03, 0.3, 0.25), (0.03, 0.5, 0.4)],
)
def test_so_many_of_11582_items_decide_a_difference(difference, share, most):
    rng, size, taken = np.random.default_rng(7), 11582, []
    gained, lost = round(size * (share + difference) / 2), round(size * (share - difference) / 2)
    contributions = np.repeat([1.0, -1.0, 0.0], [gained, lost, size - gained - lost]) / size
    shares = np.full(size, 1 / size)
    for _ in range(200):
        test = SequentialTest(shares)
        order = rng.permutation(size)
        for start in range(0, size, 500):
            part = order[start : start + 500]
            if test.update(contributions[part], shares[part]) != UNDECIDED:
                break
        taken.append(test.num_seen)
    assert np.median(taken) <= most * size
    if difference == 0.1:
        assert np.quantile(taken, 0.9) <= 0.1 * size
