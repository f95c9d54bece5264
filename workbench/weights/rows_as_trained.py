"""Reads the rows of a base weight, a few at a time, with the values that they have in training."""

import math
from collections.abc import Iterator

from torch import Tensor

from workbench.weights.as_trained import as_trained
from workbench.weights.file_tensors import FileTensor
from workbench.weights.merge_plan import MergePlan, PlannedTensor

BLOCK = 2**16
"""Number of weights in a block of `held_rows`; what is computed from them stays in a core's cache."""
SPAN = 2
"""Blocks that are read at a time; larger memory would come from the system, which clears it each time."""


def held_rows(tensor: PlannedTensor, plan: MergePlan) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks of a base weight's rows, as (index of the block's first row, float32 rows).

    The values are those of the training, rounded and quantized, without the adapter's update.

    Args:
        tensor: The weight; a scalar is yielded as one row (1,), a weight without elements not at all.
        plan: Plan of the merge, with the dtype and the device of the training.
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
    """Read a base weight, with its values in training, into `values`, converted to the dtype of `values`.

    Args:
        tensor: The weight, whose update isn't applied.
        plan: Plan of the merge.
        values: Contiguous tensor of the weight's shape on the CPU.
    """
    source = tensor.source
    if isinstance(source, FileTensor) and tensor.quantized is None and source.dtype == plan.base_dtype:
        source.read_into(values)
        return
    for first, rows in held_rows(tensor, plan):
        set_rows(values, first, rows)


def set_rows(values: Tensor, first: int, rows: Tensor) -> None:
    """Copy `rows` into `values`, the tensor of a weight, from row `first` on, rounded to its dtype."""
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
