"""Writes a merged model, one tensor after the other, with only a few rows of a weight in float32."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import CheckpointError, ConfigError
from workbench.weights.file_tensors import FileTensor, file_tensors
from workbench.weights.lora_update import Update
from workbench.weights.merge_plan import MergePlan, PlannedTensor
from workbench.weights.rows_as_trained import held_rows
from workbench.weights.shard_writer import ShardWriter
from workbench.weights.signal import Signal, measured

CHECKED_BLOCKS = 16
"""Blocks of a weight of which one row is computed in float64, too."""
CHECKED_TOLERANCE = 1e-5
"""Largest difference of a float32 sum from the float64 one, relative to the row's largest weight."""


def merge_tensors(
    plan: MergePlan, folder: Path, max_shard_bytes: int, done: Callable[[str], None] = lambda name: None
) -> dict[str, Signal]:
    """Write the merged weights as safetensors to `folder`, and measure what rounding leaves of the changes.

    Args:
        plan: All tensors of the merged model.
        folder: Existing folder.
        max_shard_bytes: Largest size of a weight file; a larger tensor has a file of its own.
        done: Called with the name of each tensor after it is written.

    Returns:
        Name -> Signal for each weight that has an update in the plan.

    Raises:
        ConfigError: A weight overflows the saved dtype.
        CheckpointError: A file is damaged, a merged weight is NaN or infinite, a float32 sum differs from the
            float64 one, or a written file reads back as other bytes.
    """
    adapter = file_tensors([plan.adapter])
    layout = {name: (plan.dtype, tensor.source.shape) for name, tensor in plan.tensors.items()}
    signals: dict[str, Signal] = {}
    with ShardWriter(folder, layout, max_shard_bytes) as writer:
        for name in writer.names:
            tensor = plan.tensors[name]
            source = tensor.source
            if isinstance(source, FileTensor) and is_unchanged(tensor, plan):
                writer.copy(name, source)
            else:
                rows = _Rows(name, tensor, plan, adapter)
                writer.write_rows(name, rows.rounded())
                if tensor.update is not None:
                    signals[name] = rows.signal
            done(name)
    return signals


def is_unchanged(tensor: PlannedTensor, plan: MergePlan) -> bool:
    """Return whether merging leaves a tensor's bytes as they are in the base's file.

    True without an update and a quantization, if the stored dtype is the base's in training and the merged
    model's.
    """
    is_plain = tensor.update is None and tensor.quantized is None
    return is_plain and tensor.source.dtype == plan.base_dtype == plan.dtype


class _Rows:
    """Computes the merged rows of one weight block by block."""

    def __init__(
        self, name: str, tensor: PlannedTensor, plan: MergePlan, adapter: Mapping[str, FileTensor]
    ) -> None:
        self.name, self.tensor, self.plan = name, tensor, plan
        self.update: Update | None = tensor.update.read(adapter) if tensor.update is not None else None
        self.signal = Signal()

    def rounded(self) -> Iterator[Tensor]:
        """Yield blocks of merged rows in the saved dtype, after checking them.

        Raises:
            ConfigError: A weight overflows the dtype.
            CheckpointError: A sum is wrong, or isn't a number.
        """
        for number, (first, base) in enumerate(held_rows(self.tensor, self.plan)):
            yield self._merged(base, first, is_checked=number % CHECKED_BLOCKS == 0)

    def _merged(self, base: Tensor, first: int, *, is_checked: bool) -> Tensor:
        """Return merged rows in the saved dtype, and add to the signal what rounding left of the change.

        Args:
            base: Rows of the base weight as in training (rounded, quantized).
            first: Number of the first of these rows in the weight.
            is_checked: Whether to compare the first of these rows with its sum in float64.
        """
        if self.update is None:
            rounded = base.to(self.plan.dtype)
            self._check_rounding(base, rounded.float())
            return rounded
        total, delta = self.update.changed(base, first)
        rounded = total.to(self.plan.dtype)
        written = rounded.float()
        self._check_rounding(total, written)
        if is_checked:
            self._check_sum(base, total, first)
        self.signal += measured(base, delta, written)
        return rounded

    def _check_rounding(self, total: Tensor, written: Tensor) -> None:
        """Refuse rows that differ from the float32 sums by over half a unit in the last place.

        The check is exact: eps is a power of two, and the differences are exact or have the right sign.
        """
        limits = torch.finfo(self.plan.dtype)
        excess = (written - total).abs_().sub_(total.abs(), alpha=limits.eps / 2).amax()
        if not float(excess) <= limits.smallest_normal * limits.eps:  # NaN, where one of them isn't finite
            raise self._wrong(total, written)

    def _wrong(self, total: Tensor, written: Tensor) -> CheckpointError | ConfigError:
        """Build the error for rows that `_check_rounding` refuses: NaN, overflow, or wrong rounding."""
        if not bool(total.isfinite().all()):
            return CheckpointError(
                f"{self.plan.adapter.parent}: can't be merged, NaN or infinite values in {self.name} "
                "(a weight or its alpha is too large)"
            )
        if not bool(written.isfinite().all()):
            dtype = str(self.plan.dtype).removeprefix("torch.")
            return ConfigError(
                f"merge.dtype: {dtype!r} has too small a range for these weights (use float32)"
            )
        return CheckpointError(f"{self.name}: rounded by more than its dtype allows")

    def _check_sum(self, base: Tensor, total: Tensor, first: int) -> None:
        """Refuse a block of float32 sums whose first row differs from its sum in float64."""
        assert self.update is not None
        exact = self.update.changed(base[:1].double(), first).rows
        if float((exact - total[:1]).abs().max()) > CHECKED_TOLERANCE * float(exact.abs().max()):
            raise CheckpointError(f"{self.name}: the float32 sum differs from the float64 one")
