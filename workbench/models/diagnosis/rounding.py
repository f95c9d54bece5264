"""Computes properties of rounded weights: spacing of neighbouring numbers, rounding noise, coarsest dtype."""

from collections.abc import Iterator

import torch
from torch import Tensor

MANTISSA_BITS = {torch.float64: 52, torch.float32: 23, torch.float16: 10, torch.bfloat16: 7}
"""Dtype -> number of stored mantissa bits."""
BLOCK = 2**22
"""Largest number of values that are compared at a time."""


def row_blocks(tensor: Tensor) -> Iterator[slice]:
    """Yield consecutive slices of the first dimension, each of at most `BLOCK` numbers or of a single row."""
    rows = max(1, BLOCK // max(1, tensor[:1].numel()))
    yield from (slice(first, first + rows) for first in range(0, len(tensor), rows))


def spacing(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the distance between neighbouring numbers of `dtype` at each float32 value; 0 at 0."""
    exponents = torch.frexp(values).exponent
    return torch.ldexp((values != 0).float(), exponents - 1 - MANTISSA_BITS[dtype])


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return float32 values rounded to `dtype`, as float32; for float32 the same tensor."""
    return values if dtype == torch.float32 else values.to(dtype).float()


def effective_dtype(tensor: Tensor) -> torch.dtype:
    """Return the coarsest floating point dtype that represents all values of a tensor.

    That is bfloat16, for example, for a float32 tensor whose values were rounded to bfloat16 before.
    """
    for dtype in (torch.bfloat16, torch.float16):
        if MANTISSA_BITS[dtype] < MANTISSA_BITS[tensor.dtype] and all(
            torch.equal(tensor[rows], tensor[rows].to(dtype).to(tensor.dtype)) for rows in row_blocks(tensor)
        ):
            return dtype
    return tensor.dtype if tensor.dtype in MANTISSA_BITS else torch.float32


def rounding_noise(tensor: Tensor, dtype: torch.dtype) -> float:
    """Return the expected sum of squared errors of rounding a tensor to `dtype` once: spacing² / 12 each."""
    return sum(
        float(spacing(tensor[rows].float(), dtype).double().square().sum()) / 12
        for rows in row_blocks(tensor)
    )
