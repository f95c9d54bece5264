"""The cache with room for more holds what transformers' own cache holds."""

import random

import pytest
import torch
from transformers import DynamicCache

from workbench.evaluation.inference.decoding.preallocated_cache import GrowingCache


def states(rows, length):
    return torch.randn(rows, 2, length, 4), torch.randn(rows, 2, length, 3)


@pytest.mark.parametrize("seed", range(5))
def test_any_course_of_decoding_leaves_the_same_keys_and_values(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    ours, reference, rows = GrowingCache(), DynamicCache(), 8
    for step in range(60):
        if step and rows > 1 and rng.random() < 0.1:
            kept = torch.tensor(sorted(rng.sample(range(rows), rows - 1)))
            rows -= 1
            ours.batch_select_indices(kept)
            reference.batch_select_indices(kept)
        if step and rng.random() < 0.1:
            length = rng.randint(1, ours.get_seq_length())
            ours.truncate(length)
            reference.crop(length - reference.get_seq_length())
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


def test_a_copy_of_a_prefix_and_the_cache_itself_grow_apart():
    cache = GrowingCache()
    held = [states.clone() for states in cache.update(*states(1, 10), 0)]
    copy = cache.prefix(6)
    copy.update(*states(1, 5), 0)
    cache.update(*states(1, 3), 0)
    for layer, length in ((cache.layers[0], 10), (copy.layers[0], 6)):
        for found, expected in zip((layer.keys, layer.values), held, strict=True):
            assert torch.equal(found[:, :, :length], expected[:, :, :length])
    assert (cache.get_seq_length(), copy.get_seq_length()) == (13, 11)
    assert cache.bytes_per_token == 2 * (4 + 3) * 4
