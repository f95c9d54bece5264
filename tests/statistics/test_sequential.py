"""Tests that may stop at any item: wealth by hand, false decisions, and how many items they take."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import betaln

from workbench.statistics.sequential import (
    _PRIOR,
    HIGHER,
    LOWER,
    UNDECIDED,
    WITHIN_MARGIN,
    SequentialTest,
    forecast_items,
    permutation,
)


def population(num_items, share, difference):
    """Contributions of items of which a share flips, and the mean is the difference."""
    gained, lost = (round(num_items * (share + sign * difference) / 2) for sign in (1, -1))
    return np.r_[np.ones(gained), -np.ones(lost), np.zeros(num_items - gained - lost)] / num_items


def decided(contributions, seed, shares=None, **options):
    """The test after all items in a random order."""
    shares = np.full(len(contributions), 1 / len(contributions)) if shares is None else shares
    test, order = SequentialTest(shares, **options), permutation(len(contributions), seed)
    test.update(contributions[order], shares[order])
    return test


def test_the_wealth_is_the_beta_binomial_likelihood_ratio():
    signs = np.array([1, 1, -1, 0, 1, 1, 0, -1, 1, 1, 1, 1, -1, 1] * 6)
    test = SequentialTest(np.full(len(signs), 1 / len(signs)), alpha=1e-9)
    test.update(signs / len(signs), np.full(len(signs), 1 / len(signs)))
    gained, lost = (signs > 0).sum(), (signs < 0).sum()
    expected = betaln(_PRIOR + gained, _PRIOR + lost) - betaln(_PRIOR, _PRIOR) + (gained + lost) * np.log(2)
    assert np.logaddexp.reduce(test._wealth) == pytest.approx(expected, abs=1e-6)


def test_items_one_by_one_are_decided_as_all_at_once():
    contributions = population(2000, 0.3, 0.1)
    whole = decided(contributions, 1)
    order, shares = permutation(2000, 1), np.full(2000, 1 / 2000)
    single = SequentialTest(shares)
    for index in order:
        if single.update(contributions[index], shares[index]) != UNDECIDED:
            break
    assert (single.decision, single.num_seen) == (whole.decision, whole.num_seen) == (HIGHER, whole.num_seen)
    assert whole.num_seen < 2000


def test_a_worse_second_model_is_lower():
    test = decided(population(2000, 0.3, -0.1), 2)
    assert test.decision == LOWER and test.difference < 0


def test_equal_models_are_decided_in_at_most_5_percent():
    rng, size = np.random.default_rng(3), 800
    shares, false = np.full(size, 1 / size), 0
    for _ in range(300):
        test = SequentialTest(shares)
        test.update(rng.choice([1, -1, 0], size, p=[0.15, 0.15, 0.7]) / size, shares)
        false += test.decision != UNDECIDED
    assert false <= stats.binom.ppf(0.999, 300, 0.05)


def test_equal_models_with_shared_luck_are_decided_by_cluster_in_at_most_5_percent():
    rng, false = np.random.default_rng(4), 0
    sizes = rng.integers(1, 10, 300)
    shares = sizes / sizes.sum()
    for _ in range(300):
        test = SequentialTest(shares)
        test.update(rng.choice([1, -1, 0], 300, p=[0.2, 0.2, 0.6]) * shares, shares)
        false += test.decision != UNDECIDED
    assert false <= stats.binom.ppf(0.999, 300, 0.05)


def test_ten_points_take_few_of_11582_items():
    taken = [
        decided(population(11582, share, 0.1), seed).num_seen for share in (0.1, 0.5) for seed in range(15)
    ]
    assert np.median(taken[:7]) <= 0.05 * 11582 and np.median(taken[7:]) <= 0.05 * 11582


def test_a_small_difference_is_known_to_be_within_the_margin():
    test = decided(population(3000, 0.3, 0.0), 5, margin=0.05)
    assert test.decision == WITHIN_MARGIN and test.num_seen < 3000
    assert decided(population(300, 0.3, 0.02), 5, margin=0.03).decision in (UNDECIDED, WITHIN_MARGIN)


def test_a_difference_of_the_margin_is_called_smaller_in_at_most_5_percent():
    contributions = population(1000, 0.2, 0.04)
    false = sum(
        decided(contributions, seed, alpha=0.05, margin=0.04).decision == WITHIN_MARGIN for seed in range(200)
    )
    assert false <= stats.binom.ppf(0.999, 200, 0.05)


def test_macro_means_weigh_items_by_their_subset():
    # the large subset gains, the small ones lose more: the macro mean falls
    subsets = np.repeat(np.arange(6), [2000, 100, 100, 100, 100, 100])
    shares = 1 / (6 * np.bincount(subsets)[subsets])
    rng = np.random.default_rng(6)
    chances = np.where(subsets == 0, 0.65, 0.3)
    contributions = np.where(rng.random(2500) < chances, 1, -1) * shares
    assert contributions.sum() < 0
    assert decided(contributions, 7, shares).decision != HIGHER


def test_the_forecast_is_near_the_median_number_of_items():
    taken = [decided(population(5000, 0.3, 0.1), seed).num_seen for seed in range(40)]
    assert forecast_items(0.1, 0.3, 5000) == pytest.approx(np.median(taken), rel=0.35)


def test_what_all_items_cannot_decide_has_no_forecast():
    assert forecast_items(0.01, 0.5, 1000) is None
