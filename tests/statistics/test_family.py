"""Families of comparisons, corrections, ranks and letters."""

import itertools

import numpy as np
import pytest
from scipy import stats

from workbench.errors import ConfigError
from workbench.statistics.family import ERROR_RATES, Family, adjusted, default_kind, pairs_of
from workbench.statistics.ranks import rank_intervals
from workbench.statistics.tie_letters import tie_letters


def test_the_families_of_a_board_add_up_to_5_percent():
    assert sum(ERROR_RATES.values()) == pytest.approx(0.05)


def test_a_p_value_times_the_size_is_below_the_error_rate_where_it_is_below_the_level():
    family = Family("pairs", 660)
    assert adjusted(1e-5, 660) == pytest.approx(0.0066) and adjusted(0.5, 660) == 1.0
    for p_value in np.geomspace(1e-7, 1, 200):
        assert (p_value < family.alpha) == (adjusted(p_value, 660) < family.error_rate)


def test_above_twenty_rows_each_is_compared_with_the_reference():
    assert (default_kind(20), default_kind(21)) == ("pairs", "reference")


def test_pairs_of_a_family():
    assert pairs_of(3) == [(0, 1), (0, 2), (1, 2)]
    assert pairs_of(4, "reference", reference=2) == [(2, 0), (2, 1), (2, 3)]
    assert pairs_of(9, "names", chosen=[7, 1, 4]) == [(1, 4), (1, 7), (4, 7)]
    with pytest.raises(ConfigError, match="unknown family 'all'"):
        pairs_of(3, "all")


def test_ranks_count_the_rows_that_are_shown_to_be_better_and_worse():
    better = np.zeros((4, 4), dtype=bool)
    better[0, 2] = better[0, 3] = better[1, 3] = True
    assert rank_intervals(better) == [(1, 2), (1, 3), (2, 4), (3, 4)]


def test_a_row_of_other_items_is_ranked_alone():
    better, comparable = np.zeros((3, 3), dtype=bool), np.ones((3, 3), dtype=bool)
    better[0, 1] = True
    comparable[2, :2] = comparable[:2, 2] = False
    assert rank_intervals(better, comparable) == [(1, 1), (2, 2), (1, 1)]


def test_letters_of_a_hand_made_table():
    # A and B tie, B and C tie, A and C differ; D is worse than all
    different = np.array([[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]], dtype=bool)
    assert tie_letters(different, [0, 1, 2, 3]) == ["a", "ab", "b", "c"]


def test_two_rows_share_a_letter_exactly_where_no_difference_is_shown():
    rng = np.random.default_rng(1)
    for count in (1, 2, 7, 20):
        different = np.triu(rng.random((count, count)) < 0.4, 1)
        different |= different.T
        letters = tie_letters(different, rng.permutation(count).tolist())
        for i, j in itertools.product(range(count), repeat=2):
            assert bool(set(letters[i]) & set(letters[j])) == (not different[i, j])


def test_scipys_tukey_table_gets_its_letters():
    groups = [np.random.default_rng(seed).normal(centre, 1, 30) for seed, centre in enumerate((0, 0.1, 2, 4))]
    different = stats.tukey_hsd(*groups).pvalue < 0.05
    np.fill_diagonal(different, False)
    assert tie_letters(different, [3, 2, 1, 0]) == ["c", "c", "b", "a"]
