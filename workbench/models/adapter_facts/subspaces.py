"""Compares two LoRAs layer by layer: the angles between the subspaces that their updates read and write."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.models.adapter_facts.lora_pairs import LoraPair, inner_product


@dataclass(frozen=True, kw_only=True)
class LayerAngles:
    """Comparison of two adapters' updates of one layer."""

    module: str
    """Name of the layer in the base."""
    ranks: tuple[int, int]
    """Ranks of the two updates, without singular values of zero."""
    cosine: float
    """<first, second> / (|first| |second|) of the updates; NaN if one is zero."""
    read_angles: list[float]
    """Principal angles between the input subspaces of the two updates, in degrees, ascending."""
    write_angles: list[float]
    """Principal angles between the output subspaces of the two updates, in degrees, ascending."""

    @property
    def overlap(self) -> float:
        """Return the mean cos² of all angles: 1 if one subspace contains the other, 0 if orthogonal.

        NaN without angles. Source: LoRA (arXiv:2106.09685), section 7.2, equation 4, here averaged over the
        subspaces of the inputs and of the outputs.
        """
        angles = [*self.read_angles, *self.write_angles]
        return (
            sum(math.cos(math.radians(angle)) ** 2 for angle in angles) / len(angles) if angles else math.nan
        )


def principal_angles(first: Tensor, second: Tensor) -> list[float]:
    """Return the principal angles between two subspaces of R^n, in degrees, ascending.

    The subspaces are given by matrices (n, k) and (n, m) with orthonormal columns; there are min(k, m)
    angles. Small angles are computed from sines, since cosines near 1 lose them (Björck and Golub, 1973).
    """
    if first.shape[1] < second.shape[1]:
        first, second = second, first
    product = first.T @ second
    cosines = torch.linalg.svdvals(product).clamp(max=1)
    sines = torch.linalg.svdvals(second - first @ product).flip(0).clamp(max=1)
    angles = torch.where(cosines**2 > 0.5, torch.asin(sines), torch.acos(cosines))
    return [math.degrees(angle) for angle in angles.tolist()]


def compare_adapters(first: Sequence[LoraPair], second: Sequence[LoraPair]) -> list[LayerAngles]:
    """Compare the updates of layers that both adapters have in the same shape, in the order of `first`."""
    others = {pair.module: pair for pair in second}
    compared = []
    for pair in first:
        other = others.get(pair.module)
        same_size = other is not None and (pair.up.shape[0], pair.down.shape[1]) == (
            other.up.shape[0],
            other.down.shape[1],
        )
        if other is not None and same_size:
            compared.append(_compare(pair, other))
    return compared


def _compare(first: LoraPair, second: LoraPair) -> LayerAngles:
    norms = first.norm * second.norm
    (write_1, _, read_1), (write_2, _, read_2) = first.spectrum, second.spectrum
    return LayerAngles(
        module=first.module,
        ranks=(write_1.shape[1], write_2.shape[1]),
        cosine=inner_product(first, second) / norms if norms else math.nan,
        read_angles=principal_angles(read_1, read_2),
        write_angles=principal_angles(write_1, write_2),
    )
