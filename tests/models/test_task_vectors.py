"""Merges of single tensors, against hand computations and numpy."""

import math

import numpy as np
import pytest
import torch

from workbench.config.merge_method import MergeMethod
from workbench.models.combining.task_vectors import added_deltas, largest_values, linear, slerp

BASE = torch.zeros(4)
FIRST = torch.tensor([4.0, -1.0, 2.0, 0.5])
SECOND = torch.tensor([-3.0, 2.0, 3.0, -0.1])


def added(method, weights=(1.0, 2.0), normalize=False, density=None, base=BASE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return added_deltas(
        base, [FIRST, SECOND], weights, MergeMethod[method],
        normalize=normalize, density=density, generator=generator,
    )  # fmt: skip


def test_task_arithmetic_adds_the_weighted_deltas_to_the_base():
    assert added("task_arithmetic", base=BASE + 1).tolist() == pytest.approx([-1.0, 4.0, 9.0, 1.3])
    assert added("task_arithmetic", normalize=True).tolist() == pytest.approx([-2 / 3, 1.0, 8 / 3, 0.1])


def test_ties_elects_signs_after_the_weights_as_mergekit_does():
    # The two largest values of each are (4, -, 2, -) and (-3, -, 3, -); times the weights (4, 2) and (-6, 6).
    assert added("ties", density=0.5).tolist() == [-6.0, 0.0, 8.0, 0.0]
    assert added("ties", density=0.5, normalize=True).tolist() == pytest.approx([-3.0, 0.0, 8 / 3, 0.0])


def numpy_ties(base, deltas, weights, density):
    """TIES with numpy, by a sort: mergekit's steps written once more."""
    sparse = []
    for delta in deltas:
        order = np.argsort(-np.abs(delta), axis=None)[: int(density * delta.size)]
        mask = np.zeros(delta.size)
        mask[order] = 1
        sparse.append(delta * mask.reshape(delta.shape))
    weighted = np.stack([weight * delta for weight, delta in zip(weights, sparse, strict=True)])
    majority = np.where(weighted.sum(0) >= 0, 1, -1)
    mask = np.sign(weighted) == majority
    divisor = (np.array(weights)[:, None, None] * mask).sum(0)
    return base + (weighted * mask).sum(0) / np.where(divisor == 0, 1, divisor)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.3, 1.7, 0.6]])
def test_ties_of_three_models_is_numpys(weights):
    random = np.random.default_rng(0)
    base, *deltas = random.normal(size=(4, 7, 11))
    expected = numpy_ties(base, deltas, weights, 0.3)
    merged = added_deltas(
        torch.tensor(base), [torch.tensor(delta) for delta in deltas], weights, MergeMethod.ties,
        normalize=True, density=0.3,
    )  # fmt: skip
    assert np.allclose(merged.numpy(), expected, rtol=0, atol=1e-12)


def test_pruning_keeps_the_share_of_largest_values_and_never_none():
    assert largest_values(FIRST, 0.5).tolist() == [4.0, 0.0, 2.0, 0.0]
    assert largest_values(FIRST, 0.01).tolist() == [4.0, 0.0, 0.0, 0.0]


def test_dare_keeps_random_values_divided_by_the_density():
    delta = torch.linspace(1, 2, 10_000)
    merged = [
        added_deltas(
            torch.zeros(10_000), [delta], [0.5], MergeMethod.dare_linear, normalize=False, density=0.25,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (1, 1, 2)
    ]  # fmt: skip
    kept = merged[0] != 0
    assert torch.equal(merged[0][kept], delta[kept] * 0.5 / 0.25)
    assert abs(int(kept.sum()) - 2500) < 5 * math.sqrt(10_000 * 0.25 * 0.75)
    assert torch.equal(merged[0], merged[1])
    assert not torch.equal(merged[0], merged[2])


def test_dare_ties_of_all_values_is_ties_of_all_values():
    assert torch.equal(added("dare_ties", density=1.0), added("ties", density=1.0))


def test_linear_is_the_weighted_mean_or_the_sum():
    assert linear([FIRST, SECOND], [1.0, 3.0], True).tolist() == pytest.approx([-1.25, 1.25, 2.75, 0.05])
    assert linear([FIRST, SECOND], [1.0, 3.0], False).tolist() == pytest.approx([-5.0, 5.0, 11.0, 0.2])
    assert torch.equal(
        linear([FIRST, SECOND], [1.0, -1.0], True), FIRST - SECOND
    )  # a sum of 0 divides nothing


def test_slerp_moves_on_the_circle_and_along_the_line_where_both_are_parallel():
    right, up = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    angle = math.pi / 2
    expected = [3 * math.sin(0.75 * angle), math.sin(0.25 * angle)]
    assert slerp(right, up, 0.25).tolist() == pytest.approx(expected)
    assert torch.equal(slerp(right, up, 0.0), right)
    assert slerp(right, 2 * right, 0.25).tolist() == pytest.approx([3.75, 0.0])
    assert slerp(torch.zeros(2), up, 0.5).tolist() == pytest.approx([0.0, math.sin(angle / 2)])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_slerp_of_random_tensors_is_numpys(share):
    first, second = np.random.default_rng(1).normal(size=(2, 5, 6))
    cosine = (first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second)
    angle = np.arccos(cosine)
    expected = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle)
    merged = slerp(torch.tensor(first), torch.tensor(second), share).numpy()
    assert np.allclose(merged, expected, rtol=0, atol=1e-12)
