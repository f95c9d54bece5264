"""Merges the tensors that several models have under one name, by mergekit's published formulas, in float32.

Sources: task arithmetic (arXiv:2212.04089), TIES (arXiv:2306.01708), DARE (arXiv:2311.03099). Linear, slerp
and the order of steps are from mergekit (arXiv:2403.13257): TIES elects signs after weighting.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workbench.config.merge_method import MergeMethod

PARALLEL = 0.9995
"""If the absolute cosine of two tensors is larger, slerp interpolates linearly."""
TINY_NORM = 1e-8
"""slerp doesn't normalize a tensor with at most this norm."""
TINY_SUM = 1e-8
"""A sum of weights smaller than this is not divided by."""


def linear(tensors: Sequence[Tensor], weights: Sequence[float], normalize: bool) -> Tensor:
    """Return the weighted sum of tensors; with `normalize` it is divided by the sum of the weights.

    A sum of about 0 isn't divided by.
    """
    total = _weighted_sum(tensors, weights)
    return total / _divisor(sum(weights)) if normalize else total


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Interpolate spherically between two tensors, taken as vectors; linearly if they are nearly parallel.

    `share` 0 gives `first`, and 1 `second`.
    """
    cosine = float((_direction(first) * _direction(second)).sum())
    if abs(cosine) > PARALLEL:
        return (1 - share) * first + share * second
    angle = torch.arccos(torch.tensor(cosine, dtype=torch.float64))
    shares = torch.sin(angle * (1 - share)) / torch.sin(angle), torch.sin(angle * share) / torch.sin(angle)
    return float(shares[0]) * first + float(shares[1]) * second


def added_deltas(
    base: Tensor,
    deltas: Sequence[Tensor],
    weights: Sequence[float],
    method: MergeMethod,
    *,
    normalize: bool,
    density: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the base plus a weighted sum of the tuned models' differences from the base.

    Args:
        base: The base's tensor.
        deltas: Each model's tensor minus the base's.
        weights: Factor on each delta.
        method: task_arithmetic and dare_linear add all values; ties and dare_ties add, for each element, only
            deltas with the sign of the weighted sum. Before that, ties drops all but each delta's largest
            values; dare drops random values and divides the others by the density.
        normalize: Whether to divide by the sum of the weights; for ties and dare_ties, of the weights of the
            deltas that are added to the element.
        density: Share of values that aren't dropped; None: all.
        generator: Source of random numbers for dare; None: torch's global one.
    """
    if density is not None and density < 1:
        prune = PRUNE[method]
        deltas = [prune(delta, density, generator) for delta in deltas]
    if not method.elects_sign:
        total = _weighted_sum(deltas, weights)
        return base + (total / _divisor(sum(weights)) if normalize else total)
    is_negative = _weighted_sum(deltas, weights) < 0
    total, divisor = torch.zeros_like(base), torch.zeros_like(base)
    for delta, weight in zip(deltas, weights, strict=True):
        weighted = weight * delta
        counts = torch.where(is_negative, weighted < 0, weighted > 0)
        total += torch.where(counts, weighted, 0.0)
        divisor += weight * counts.to(divisor.dtype)
    return base + (total / torch.where(divisor == 0, 1.0, divisor) if normalize else total)


def largest_values(delta: Tensor, density: float, _: torch.Generator | None = None) -> Tensor:
    """Return a copy of `delta` with zeros, except for the share `density` of its values largest in magnitude.

    At least one value is kept.
    """
    count = max(1, int(density * delta.numel()))
    indices = delta.abs().flatten().topk(count, sorted=False).indices
    mask = torch.zeros(delta.numel(), dtype=torch.bool)
    mask[indices] = True
    return torch.where(mask.view_as(delta), delta, 0.0)


def random_values(delta: Tensor, density: float, generator: torch.Generator | None) -> Tensor:
    """Return a copy of `delta` with random values set to zero and the others divided by `density`.

    A value is kept with the probability `density`.
    """
    mask = torch.bernoulli(torch.full_like(delta, density), generator=generator)
    return delta * mask / density


PRUNE: dict[MergeMethod, Callable[[Tensor, float, torch.Generator | None], Tensor]] = {
    MergeMethod.ties: largest_values,
    MergeMethod.dare_linear: random_values,
    MergeMethod.dare_ties: random_values,
}
"""Method -> function (delta, density, generator) that sets values of a delta to zero."""


def _weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the sum of the tensors times their weights."""
    total = torch.zeros_like(tensors[0])
    for tensor, weight in zip(tensors, weights, strict=True):
        total += weight * tensor
    return total


def _divisor(total: float) -> float:
    """Return the sum of weights, or 1 if it is about 0, so that dividing by it is safe."""
    return 1.0 if abs(total) < TINY_SUM else total


def _direction(tensor: Tensor) -> Tensor:
    """Return the tensor divided by its norm, in float64; a tensor of about zero is returned undivided."""
    double = tensor.double()
    norm = float(double.norm())
    return double / norm if norm > TINY_NORM else double
