"""The cache with room for more holds what transformers' own cache holds."""

import random

import pytest
import torch
from transformers import DynamicCache

from workbench.evaluation.inference.preallocated_cache import GrowingCache


def states(rows, length):
    return torch.randn(rows, 2, length, 4), torch.randn(rows, 2, length, 3)


@pytest.mark.parametrize("seed", range(5))
def test_any_course_of_decoding_leaves_the_same_keys_and_values(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    ours, reference, rows = GrowingCache(), DynamicCache(), 1
    for step in range(60):
        if step == 1:
            rows = 8
            ours = ours.shared_by(rows)
            reference.batch_repeat_interleave(rows)
        elif step > 1 and rows > 1 and rng.random() < 0.1:
            kept = torch.tensor(sorted(rng.sample(range(rows), rows - 1)))
            rows -= 1
            ours.batch_select_indices(kept)
            reference.batch_select_indices(kept)
        length = rng.choice([1, 1, 1, 40])
        for layer in range(2):
            new = states(rows, length)
            for found, expected in zip(ours.update(*new, layer), reference.update(*new, layer), strict=True):
                assert torch.equal(found, expected)
        assert ours.get_seq_length() == reference.get_seq_length()


def test_a_new_token_does_not_move_what_is_held():
    cache = GrowingCache()
    before = cache.update(*states(3, 10), 0)[0].data_ptr()
    assert all(cache.update(*states(3, 1), 0)[0].data_ptr() == before for _ in range(50))


def test_a_shared_beginning_stays_as_it_was():
    beginning = GrowingCache()
    held = beginning.update(*states(1, 10), 0)[0].clone()
    for rows in (2, 3):
        cache = beginning.shared_by(rows)
        cache.update(*states(rows, 5), 0)
        assert torch.equal(beginning.layers[0].keys, held)
        assert torch.equal(cache.layers[0].keys[:, :, :10], held.expand(rows, -1, -1, -1))
