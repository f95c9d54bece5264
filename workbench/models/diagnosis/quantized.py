"""Recognises weights that were quantized by bitsandbytes and dequantized again."""

from collections.abc import Callable
from functools import partial
from typing import cast

from bitsandbytes.functional import int8_vectorwise_quant
from torch import Tensor

from workbench.weights.four_bits import dequantize_4bit, quantize_4bit

BLOCK_SIZE = 64
"""Number of weights that share a scale in 4 bits."""
LEVELS = 16
"""Largest number of different values in a block in 4 bits."""
CHECKED_BLOCKS = 4096
"""Number of blocks at the beginning of a weight that are checked for 4-bit levels."""


def _four_bits(weight: Tensor, kind: str, double_quant: bool) -> Tensor:
    values, state = quantize_4bit(weight.contiguous(), quant_type=kind, compress_statistics=double_quant)
    return dequantize_4bit(values, state).float()


def _int8(weight: Tensor) -> Tensor:
    values, scales, _ = int8_vectorwise_quant(weight.half())
    return cast(Tensor, values.float() * (scales[:, None].float() / 127))


ROUND_TRIPS: dict[str, Callable[[Tensor], Tensor]] = {
    "nf4": partial(_four_bits, kind="nf4", double_quant=True),
    "nf4 without double quantization": partial(_four_bits, kind="nf4", double_quant=False),
    "int8": _int8,
    "fp4": partial(_four_bits, kind="fp4", double_quant=True),
    "fp4 without double quantization": partial(_four_bits, kind="fp4", double_quant=False),
}
"""Name of a quantization -> function that quantizes and dequantizes a weight (rows, columns), to float32."""


def has_four_bit_levels(weight: Tensor) -> bool:
    """Return whether none of a matrix's first blocks has more than 16 different values, as in 4 bits.

    False if blocks have 8 or fewer different values on average, since zeros, say, prove nothing.
    """
    flat = weight.flatten()[: CHECKED_BLOCKS * BLOCK_SIZE]
    blocks = flat[: len(flat) // BLOCK_SIZE * BLOCK_SIZE].view(-1, BLOCK_SIZE).float()
    ordered = blocks.sort(dim=1).values
    counts = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1)
    return len(counts) > 0 and int(counts.max()) <= LEVELS and float(counts.float().mean()) > LEVELS / 2
