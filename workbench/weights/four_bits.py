"""bitsandbytes' 4-bit functions; importing this module corrects its CPU kernel in the entire process.

On CPUs with AVX-512 the kernel of bitsandbytes 0.50 (csrc/cpu_ops.cpp, dequantizeBlockwise4bitCpu) counts the
blocks of each row from 0, although blocks run on from row to row. So weights whose rows are a multiple of 16
wide, but not of the block (64), got scales of other blocks. All that uses 4-bit weights calls this kernel:
products, gradients, DoRA's norms and merging.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from torch import Tensor

__all__ = ["QuantState", "dequantize_4bit", "quantize_4bit"]

OPERATOR = "bitsandbytes::dequantize_4bit"

_kernel = torch.library.get_kernel(OPERATOR, "CPU")


def _dequantize(
    keys: Any,
    packed: Tensor,
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    shape: Sequence[int],
    dtype: torch.dtype,
) -> Tensor:
    """Return the weights of the given shape by bitsandbytes' kernel, which gets a block as a row."""
    if shape[-1] % blocksize == 0:
        return _kernel.call_boxed(keys, packed, absmax, blocksize, quant_type, shape, dtype)  # type: ignore[no-any-return]
    count = math.prod(shape)
    rows = [1, count] if count % blocksize else [count // blocksize, blocksize]
    weights: Tensor = _kernel.call_boxed(keys, packed, absmax, blocksize, quant_type, rows, dtype)
    return weights.view(shape)


# The kernel is replaced for as long as the library lives.
_library = torch.library.Library("bitsandbytes", "IMPL")  # type: ignore[no-untyped-call]
with warnings.catch_warnings(action="ignore", category=UserWarning):  # that the kernel is replaced
    _library.impl("dequantize_4bit", _dequantize, "CPU", with_keyset=True)  # type: ignore[no-untyped-call]
