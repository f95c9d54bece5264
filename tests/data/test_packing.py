import random
from dataclasses import replace

import pytest

from workbench.data.example import Example
from workbench.data.packing import best_fit, check_packed, packed, positions
from workbench.errors import DataError


def test_every_item_is_in_one_bin_and_no_bin_is_too_full():
    lengths = [random.Random(seed).randint(1, 100) for seed in range(500)]
    bins = best_fit(lengths, 100)
    assert sorted(item for items in bins for item in items) == list(range(len(lengths)))
    assert all(sum(lengths[item] for item in items) <= 100 for items in bins)


def test_bins_of_many_short_items_are_nearly_full():
    lengths = [random.Random(seed).randint(1, 400) for seed in range(2000)]
    bins = best_fit(lengths, 1024)
    assert sum(lengths) / (1024 * len(bins)) > 0.99


def test_an_item_goes_into_the_fullest_bin_that_has_room():
    assert best_fit([6, 7, 3, 2], 10) == [[0, 3], [1, 2]]


def test_the_same_lengths_give_the_same_bins_and_equal_ones_keep_their_order():
    assert best_fit([5, 5, 5, 5], 10) == [[0, 1], [2, 3]]
    assert best_fit([], 10) == []


def test_positions_count_from_zero_in_each_text():
    assert positions([3, 1, 2]) == [0, 1, 2, 0, 0, 1]


def test_packed_rows_that_train_other_tokens_than_their_examples_are_refused():
    apart = [Example([1, 2, 3], [-100, 2, 3], "a:1"), Example([4, 5, 6], [-100, -100, 6], "a:2")]
    check_packed(apart, list(packed(apart, 6)))
    [row] = packed(apart, 6)
    with pytest.raises(DataError, match="packed rows have 2 unmasked tokens, their examples 3"):
        check_packed(apart, [replace(row, labels=[*row.labels[:-1], -100])])
    with pytest.raises(DataError, match="packed rows have 2 unmasked tokens, their examples 3"):
        check_packed(apart, [replace(row, lengths=[2, 4])])
