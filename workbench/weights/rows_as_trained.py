"""Yields the rows of a base weight as a training held them, a few at a time."""

import math
from collections.abc import Iterator

from torch import Tensor

from workbench.weights.as_trained import as_trained
from workbench.weights.file_tensors import FileTensor
from workbench.weights.gguf_rows import GgufRows
from workbench.weights.merge_plan import MergePlan, PlannedTensor

BLOCK = 2**16
"""Weights that are yielded at a time; what is computed from them stays in a core's cache."""
SPAN = 2**17
"""Weights that are read at a time; larger memory would come from the system, which clears it each time."""


def held_rows(tensor: PlannedTensor, plan: MergePlan) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks of a base weight's rows in float32, with the number of the first row of each.

    Args:
        tensor: The weight; a scalar has one row.
        plan: Says in which dtype, and on which device, the training held it.
    """
    shape = tensor.source.shape
    if not math.prod(shape):
        return
    row_size = math.prod(shape[1:])
    count = max(1, BLOCK // row_size)
    for start, stored in _spans(tensor, plan, max(1, SPAN // row_size)):
        for first in range(0, len(stored), count):
            rows = stored[first : first + count]
            is_held = tensor.quantized is not None
            yield start + first, rows if is_held else as_trained(rows, plan.base_dtype, None, plan.device)


def read_held(tensor: PlannedTensor, plan: MergePlan, values: Tensor) -> None:
    """Read a base weight as a training held it into `values`, and round it to their dtype."""
    source = tensor.source
    if isinstance(source, FileTensor) and tensor.quantized is None and source.dtype == plan.base_dtype:
        source.read_into(values)
        return
    for first, rows in held_rows(tensor, plan):
        set_rows(values, first, rows)


def set_rows(values: Tensor, first: int, rows: Tensor) -> None:
    """Round rows to the dtype of a weight, and write them into it."""
    (values if values.dim() else values.view(1))[first : first + len(rows)] = rows


def _spans(tensor: PlannedTensor, plan: MergePlan, count: int) -> Iterator[tuple[int, Tensor]]:
    """Yield `count` rows at a time, as stored or dequantized, with the number of the first."""
    whole, num_rows = _whole(tensor, plan), tensor.source.shape[0] if tensor.source.shape else 1
    for first in range(0, num_rows, count):
        last = min(first + count, num_rows)
        yield first, tensor.source.rows(first, last) if whole is None else whole[first:last]


def _whole(tensor: PlannedTensor, plan: MergePlan) -> Tensor | None:
    """Return all rows of a weight that can't be read row by row; None: it can."""
    source = tensor.source
    if not source.shape:
        return source[...].view(1)
    if tensor.quantized is not None:  # blocks of quantized weights don't end with the rows
        return as_trained(source[...], plan.base_dtype, tensor.quantized, plan.device)
    return source[...] if isinstance(source, GgufRows) and source.num_heads else None  # interleaved rows
