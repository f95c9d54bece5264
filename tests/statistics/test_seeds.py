"""Several seeds of a recipe: the variance of its mean by hand, and both verdicts in simulation."""

import numpy as np
import pytest
from scipy import stats

from workbench.errors import DataError
from workbench.statistics.paired import compare_paired
from workbench.statistics.seeds import DESCRIPTIVE, NO_VARIANCE, compare_seeds


def drawn(rng, num_seeds, num_items, *, seed_spread, shift=0.0):
    """Right and wrong answers of models whose skill depends on the seed."""
    skill = 0.5 + shift + rng.normal(0, seed_spread, num_seeds)
    return (rng.random((num_seeds, num_items)) < np.clip(skill, 0, 1)[:, None]).astype(float)


def test_the_variance_is_the_formula_of_seeds_items_and_interaction():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(6, 40)), rng.normal(size=(5, 40))
    expected = 0.0
    for scores in (first, second):
        k, n = scores.shape
        rest = scores - scores.mean(axis=0) - scores.mean(axis=1)[:, None] + scores.mean()
        interaction = (rest**2).sum() / ((k - 1) * (n - 1))
        expected += scores.mean(axis=1).var(ddof=1) / k - interaction / (k * n)
    expected += (second.mean(axis=0) - first.mean(axis=0)).var(ddof=1) / 40
    found = compare_seeds(first, second).recipe
    assert found.stderr == pytest.approx(np.sqrt(expected)) and found.reason == ""


def test_these_checkpoints_are_compared_by_their_mean_score_of_each_item():
    rng = np.random.default_rng(2)
    first, second = (drawn(rng, 3, 200, seed_spread=0.05) for _ in range(2))
    expected = compare_paired(first.mean(axis=0), second.mean(axis=0))
    assert compare_seeds(first, second).checkpoints == expected


def test_fewer_than_five_seeds_only_describe_the_recipe():
    rng = np.random.default_rng(3)
    first, second = drawn(rng, 5, 500, seed_spread=0.01), drawn(rng, 3, 500, seed_spread=0.01, shift=0.3)
    found = compare_seeds(first, second)
    assert found.recipe.reason == DESCRIPTIVE and found.recipe.sign == 0 and found.recipe.low > 0
    assert found.checkpoints.sign == 1


def test_one_seed_a_side_says_nothing_about_the_recipe():
    rng = np.random.default_rng(4)
    found = compare_seeds(drawn(rng, 1, 90, seed_spread=0), drawn(rng, 1, 90, seed_spread=0)).recipe
    assert np.isnan(found.p_value) and found.reason == DESCRIPTIVE


def test_five_seeds_that_show_no_variance_are_not_called_too_few():
    scores = np.tile(np.linspace(0, 0.5, 30), (5, 1))
    found = compare_seeds(scores, scores).recipe
    assert np.isnan(found.p_value) and found.sign == 0 and found.reason == NO_VARIANCE


def test_recipes_of_different_items_are_refused():
    with pytest.raises(DataError, match="same items"):
        compare_seeds(np.zeros((2, 3)), np.zeros((2, 4)))


def test_equal_recipes_differ_in_at_most_5_percent_though_their_checkpoints_do():
    rng, recipe, checkpoints = np.random.default_rng(5), 0, 0
    for _ in range(150):
        found = compare_seeds(*(drawn(rng, 5, 400, seed_spread=0.06) for _ in range(2)))
        recipe += found.recipe.sign != 0
        checkpoints += found.checkpoints.sign != 0
    assert recipe <= stats.binom.ppf(0.999, 150, 0.05)
    assert checkpoints > 30


def test_clusters_of_copied_items_count_once():
    rng = np.random.default_rng(6)
    first, second = (drawn(rng, 5, 80, seed_spread=0.05) for _ in range(2))
    once = compare_seeds(first, second).recipe
    copied = [np.repeat(scores, 3, axis=1) for scores in (first, second)]
    threefold = compare_seeds(*copied, clusters=np.repeat(np.arange(80), 3)).recipe
    assert (threefold.stderr, threefold.p_value) == pytest.approx((once.stderr, once.p_value))
