"""Decomposes the change of one weight matrix into the matrices A and B of a LoRA."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.config.inspection.extract import ExtractConfig
from workbench.errors import CheckpointError
from workbench.models.diagnosis.low_rank import spectrum
from workbench.models.diagnosis.rounding import effective_dtype, rounding_noise


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """LoRA of one weight, and how much of the weight's difference from the base it represents."""

    name: str
    """Name of the weight's module in the tuned checkpoint, or in the converted adapter's file."""
    down: Tensor
    """A (rank, columns)"""
    up: Tensor
    """B (rows, rank); the update is B·A with the scale 1."""
    share: float
    """Share of the squared difference, without its rounding noise, that the update represents."""
    shares: dict[int, float]
    """Rank (powers of two up to the largest computed) -> share that an update of this rank represents."""
    size: float | None
    """|difference| / |base weight|, Frobenius norms; None if the base's weight is zero."""
    energy: float
    """Sum of squares of the difference."""
    is_whole: bool
    """Whether the update represents all of the difference but rounding errors."""
    is_embedding: bool = False
    """Whether the weight has a row for each token, not for each output."""

    @property
    def rank(self) -> int:
        """Return the rank of the update."""
        return len(self.down)

    def facts(self) -> dict[str, Any]:
        """Return `rank`, `share`, `size` and `shares`, as values that JSON can represent."""
        return {"rank": self.rank, "share": self.share, "size": self.size, "shares": self.shares}


def decompose(name: str, base: Tensor, tuned: Tensor, config: ExtractConfig) -> Extracted | None:
    """Return the LoRA closest to `tuned` - `base`; None if the difference is zero or only rounding.

    Args:
        name: Name of the module.
        base: Weight (rows, columns) of the base.
        tuned: The same weight after tuning.
        config: Section `extract` of the configuration: rank, or share of the difference to represent.

    Raises:
        CheckpointError: A weight is NaN or infinite.
    """
    difference = tuned.float() - base.float()
    squares = float(difference.double().square().sum())
    if not math.isfinite(squares):
        raise CheckpointError(f"{name}: has NaN or infinite weights in one of the two checkpoints")
    noise = min(rounding_noise(tuned, effective_dtype(tuned)), squares)
    if not squares or _is_rounding(base, tuned):
        return None
    return closest(name, difference, config, base_norm=float(base.float().norm()), noise=noise)


def closest(
    name: str,
    difference: Tensor,
    config: ExtractConfig,
    *,
    base_norm: float,
    noise: float = 0.0,
    floor: float = 0.0,
    is_embedding: bool = False,
) -> Extracted:
    """Return the LoRA that is closest to a difference of weights, by its singular value decomposition.

    Args:
        name: Name of the module.
        difference: (rows, columns), not zero.
        config: Section `extract` of the configuration: rank, or share of the difference to represent.
        base_norm: Frobenius norm of the base's weight.
        noise: Expected sum of squares of rounding errors in the difference; no share counts them.
        floor: Singular values up to this are rounding errors.
        is_embedding: Whether the weight has a row for each token.
    """
    squares = float(difference.double().square().sum())
    most = min(config.rank or config.max_rank, *difference.shape)
    parts = spectrum(difference, most, noise)
    if not parts.energy:
        parts = spectrum(difference, most)
    whole = max(1, int((parts.values > max(floor, _smallest(parts.values, difference))).sum()))
    is_exact = config.share == 1 and not noise  # sums of squares in float32 may reach 1 too early
    needed = most if is_exact else parts.rank(config.share) or most
    rank = most if config.rank is not None else min(needed, most, most if noise else whole)
    root = parts.values[:rank].sqrt()
    return Extracted(
        name=name,
        down=(root[:, None] * parts.right[:, :rank].T).contiguous(),
        up=(parts.left[:, :rank] * root).contiguous(),
        share=min(1.0, float(parts.shares[rank - 1])),
        shares={
            2**power: float(parts.shares[2**power - 1])
            for power in range(most.bit_length())
            if 2**power <= most
        },
        size=math.sqrt(squares) / base_norm if base_norm else None,
        energy=squares,
        is_whole=rank >= whole,
        is_embedding=is_embedding,
    )


def _smallest(values: Tensor, matrix: Tensor) -> float:
    """Estimate the largest singular value that float32 arithmetic alone gives a matrix of lower rank."""
    return float(values[0]) * sum(map(math.sqrt, matrix.shape)) * torch.finfo(torch.float32).eps


def _is_rounding(base: Tensor, tuned: Tensor) -> bool:
    """Return whether rounding the base's weight to the tuned weight's dtype gives the tuned weight."""
    return bool((base.to(tuned.dtype) == tuned).all())
