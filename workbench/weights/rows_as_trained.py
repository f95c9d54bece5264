"""Yields the rows of a base weight as a training held them, a few at a time."""

import math
from collections.abc import Iterator

from torch import Tensor

from workbench.weights.as_trained import as_trained
from workbench.weights.file_tensors import FileTensor
from workbench.weights.merge_plan import MergePlan, PlannedTensor

BLOCK = 2**16
"""Weights that are yielded at a time; what is computed from them stays in a core's cache."""
SPAN = 2
"""Blocks that are read at a time; larger memory would come from the system, which clears it each time."""


def held_rows(tensor: PlannedTensor, plan: MergePlan) -> Iterator[tuple[int, Tensor]]:
    """Yield (number of the first row, float32 rows) for blocks of a base weight, quantized as in training.

    Args:
        tensor: The weight; a scalar has one row.
        plan: Has the dtype and the device of the training.
    """
    shape = tensor.source.shape
    if not math.prod(shape):
        return
    row_size = math.prod(shape[1:])
    count = max(1, BLOCK // row_size)
    for start, stored in _spans(tensor, plan, SPAN * count):
        for first in range(0, len(stored), count):
            rows = stored[first : first + count]
            is_held = tensor.quantized is not None
            yield start + first, rows if is_held else as_trained(rows, plan.base_dtype, None, plan.device)


def read_held(tensor: PlannedTensor, plan: MergePlan, values: Tensor) -> None:
    """Read a base weight as in training (rounded, quantized) into `values`, converted to their dtype."""
    source = tensor.source
    if isinstance(source, FileTensor) and tensor.quantized is None and source.dtype == plan.base_dtype:
        source.read_into(values)
        return
    for first, rows in held_rows(tensor, plan):
        set_rows(values, first, rows)


def set_rows(values: Tensor, first: int, rows: Tensor) -> None:
    """Write `rows` into a weight's `values` from row `first` on, rounded to the dtype of `values`."""
    (values if values.dim() else values.view(1))[first : first + len(rows)] = rows


def _spans(tensor: PlannedTensor, plan: MergePlan, count: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (number of the first row, rows) for `count` rows at a time.

    Rows are as stored or, of a quantized weight, as in training.
    """
    whole, num_rows = _whole(tensor, plan), tensor.source.shape[0] if tensor.source.shape else 1
    for first in range(0, num_rows, count):
        last = min(first + count, num_rows)
        yield first, tensor.source.rows(first, last) if whole is None else whole[first:last]


def _whole(tensor: PlannedTensor, plan: MergePlan) -> Tensor | None:
    """Return the entire weight if its rows can't be read separately, else None.

    That is so for scalars, weights that the training quantizes, and some formats of files.
    """
    source = tensor.source
    if not source.shape:
        return source[...].view(1)
    if tensor.quantized is not None:  # blocks of quantized weights don't end with the rows
        return as_trained(source[...], plan.base_dtype, tensor.quantized, plan.device)
    return None if source.reads_rows else source[...]
