"""Merges an adapter into a base tensor by tensor: a few rows of one weight are in memory in float32.

Runs as a process of its own, which imports neither transformers nor peft:

    python -m workbench.weights.merge_tensors PLAN.json FOLDER RESULT.json MAX_SHARD_BYTES
"""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import CheckpointError, ConfigError, WorkbenchError
from workbench.files import write_json
from workbench.weights.as_trained import as_trained
from workbench.weights.file_tensors import FileTensor, file_tensors
from workbench.weights.lora_update import Update
from workbench.weights.merge_plan import MergePlan, PlannedTensor, plan_of
from workbench.weights.shard_writer import ShardWriter
from workbench.weights.signal import Signal, measured

BLOCK = 2**21
"""Weights that are computed at a time in float32."""
CHECKED_TOLERANCE = 1e-5
"""Largest difference of a float32 sum from the float64 one, relative to the row's largest weight."""


def merge_tensors(
    plan: MergePlan, folder: Path, max_shard_bytes: int, done: Callable[[str], None] = lambda name: None
) -> dict[str, Signal]:
    """Write the merged weights to `folder`, and return what rounding left of each change.

    Args:
        plan: All tensors.
        folder: Existing folder.
        max_shard_bytes: Largest size of a weight file.
        done: Called with the name of each written tensor.

    Raises:
        ConfigError: A weight overflows the dtype.
        CheckpointError: A file is damaged, a weight isn't a number, or the disk returned other bytes.
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
    """Return whether a tensor's bytes are copied."""
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
        """Yield blocks of rows in the saved dtype.

        Raises:
            ConfigError: A weight overflows the dtype.
            CheckpointError: A sum is wrong, or isn't a number.
        """
        for first, base in self._held():
            total, delta = self.update.changed(base, first) if self.update is not None else (base, base)
            rounded = total.to(self.plan.dtype)
            self._check(base, total, rounded, first)
            if self.update is not None:
                self.signal += measured(base, delta, rounded)
            yield rounded

    def _held(self) -> Iterator[tuple[int, Tensor]]:
        """Yield blocks of the base's rows as the training held them, in float32, with the first's number."""
        source, plan = self.tensor.source, self.plan
        if not source.shape:
            yield 0, as_trained(source[...], plan.base_dtype, None, plan.device)
            return
        width = max(1, source.shape[0] and torch.Size(source.shape).numel() // source.shape[0])
        count = max(1, BLOCK // width)
        whole = None
        if self.tensor.quantized is not None:  # its blocks of weights don't end with the rows
            whole = as_trained(source[...], plan.base_dtype, self.tensor.quantized, plan.device)
        for first in range(0, source.shape[0], count):
            last = min(first + count, source.shape[0])
            if whole is not None:
                yield first, whole[first:last]
            else:
                yield first, as_trained(source.rows(first, last), plan.base_dtype, None, plan.device)

    def _check(self, base: Tensor, total: Tensor, rounded: Tensor, first: int) -> None:
        """Compare the rounded rows with the float32 sum, and one row of the sum with a float64 one."""
        if not bool(total.isfinite().all()):
            raise CheckpointError(
                f"{self.plan.adapter.parent}: can't be merged, NaN or infinite values in {self.name} "
                "(a weight or its alpha is too large)"
            )
        if not bool(rounded.isfinite().all()):
            dtype = str(self.plan.dtype).removeprefix("torch.")
            raise ConfigError(f"merge.dtype: {dtype!r} has too small a range for these weights (use float32)")
        limits = torch.finfo(self.plan.dtype)
        bound = total.abs() * (limits.eps / 2) + limits.smallest_normal * limits.eps
        if bool(((rounded.float() - total).abs() > bound).any()):
            raise CheckpointError(f"{self.name}: rounded by more than its dtype allows")
        if self.update is None or not len(base):
            return
        exact = self.update.changed(base[:1].double(), first).rows
        if float((exact - total[:1]).abs().max()) > CHECKED_TOLERANCE * float(exact.abs().max()):
            raise CheckpointError(f"{self.name}: the float32 sum differs from the float64 one")


def main(plan_file: str, folder: str, result: str, max_shard_bytes: str) -> None:
    """Merge as the plan says, print the name of each written tensor, and write the signals as JSON.

    When the process that started this one ends, standard input does, and this process deletes the folder and
    ends too.
    """
    threading.Thread(target=end_with_parent, args=(Path(folder),), daemon=True).start()
    plan = plan_of(json.loads(Path(plan_file).read_text(encoding="utf-8")))
    try:
        signals = merge_tensors(
            plan, Path(folder), int(max_shard_bytes), lambda name: print(name, flush=True)
        )
    except WorkbenchError as error:
        write_json(Path(result), {"error": type(error).__name__, "message": str(error)})
        return
    write_json(Path(result), {"signals": {name: vars(signal) for name, signal in signals.items()}})


def end_with_parent(folder: Path) -> None:
    """Wait for the end of standard input; then delete the half-written folder and end this process."""
    sys.stdin.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
