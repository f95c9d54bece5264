"""Splits a batch into microbatches when memory runs out: the same gradient from fewer rows at a time."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.packing import cut
from workbench.errors import TrainingError
from workbench.machine import is_out_of_memory
from workbench.training.counters import TrainCounters

log = logging.getLogger("workbench")

Batch = dict[str, Any]
ForwardBackward = Callable[[Batch], Tensor]


class MicrobatchSplitter:
    """Runs forward and backward passes on batches; if memory runs out, splits them and repeats the step.

    A batch of 8 rows then becomes two microbatches of 4: the same rows, divisor and random numbers as if
    `train.per_device_batch_size` had been half and `train.gradient_accumulation_steps` double from the start.
    """

    def __init__(
        self, model: nn.Module, counters: TrainCounters, batch_size: int | None, *, can_split: bool
    ) -> None:
        """Start with as many microbatches per batch as `counters.num_splits` says.

        Args:
            model: The model; its gradients are set to zero when a step is repeated.
            counters: Has the number of microbatches per batch, which is raised here when memory runs out; a
                checkpoint stores it, so that a resumed training splits, too.
            batch_size: Rows of a batch; None: the number varies.
            can_split: Whether the losses of microbatches add up, and no other rank waits for this rank.
        """
        self.model = model
        self.counters = counters
        self.batch_size = batch_size
        self.can_split = can_split
        self.step = -1
        self.batches: list[tuple[Batch, Sequence[int]]] = []
        """Batches of the current step, with the lengths of their rows."""

    def train(
        self, step: int, batch: Batch, lengths: Sequence[int], forward_backward: ForwardBackward
    ) -> Tensor:
        """Add the gradients of one batch to the model's, and return the batch's share of the step's loss.

        If memory runs out, all batches of the step so far are repeated in smaller microbatches.

        Args:
            step: The optimizer step that the batch belongs to.
            batch: Collated tensors, padded or joined to one row.
            lengths: Number of tokens of each row.
            forward_backward: Runs both passes on a batch and returns its share of the step's loss.

        Raises:
            TrainingError: Not even a single row fits into memory, or the batch doesn't and can't be split.
        """
        if step != self.step:
            self.step, self.batches = step, []
        self.batches.append((batch, lengths))
        loss = self._try_batches(self.batches[-1:], forward_backward)
        while loss is None:
            self._halve()
            self.model.zero_grad()
            loss = self._try_batches(self.batches, forward_backward)
        return loss

    def _try_batches(
        self, batches: Sequence[tuple[Batch, Sequence[int]]], forward_backward: ForwardBackward
    ) -> Tensor | None:
        """Run forward and backward passes on all batches, each in microbatches.

        Return the loss of the last batch; None if memory ran out.
        """
        loss = None
        try:
            for batch, lengths in batches:
                microbatches = split_batch(batch, lengths, self._microbatch_size(len(lengths)))
                loss = torch.stack([forward_backward(microbatch) for microbatch in microbatches]).sum()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return loss

    def _halve(self) -> None:
        """Halve the number of rows per microbatch, and warn.

        Raises:
            TrainingError: A microbatch is a single row already, or batches can't be split here.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rows = max(self._microbatch_size(len(lengths)) for _, lengths in self.batches)
        if rows == 1 or not self.can_split:
            longest = max(max(lengths) for _, lengths in self.batches)
            raise TrainingError(
                f"train: out of memory at step {self.step + 1}, with {rows} {'row' if rows == 1 else 'rows'} "
                f"at once of up to {longest} tokens (recipe=plan shows settings that fit)"
            )
        self.counters.num_splits *= 2
        log.warning(
            "train: out of memory at step %d; batches of %d rows are now split into %d microbatches (the "
            "result is the same)",
            self.step + 1,
            self.batch_size or max(len(lengths) for _, lengths in self.batches),
            self.counters.num_splits,
        )

    def _microbatch_size(self, num_rows: int) -> int:
        """Return the number of rows per microbatch for a batch of `num_rows` rows."""
        return min(num_rows, -(-(self.batch_size or num_rows) // self.counters.num_splits))


def split_batch(batch: Batch, lengths: Sequence[int], size: int) -> list[Batch]:
    """Split a batch of tensors into microbatches of `size` rows, each padded only to its own longest row.

    The results are views of the batch's tensors, or the batch itself if it has at most `size` rows.

    Args:
        batch: Name -> tensor, of shape (rows, width) if padded, (1, all tokens) if joined, or (rows,).
        lengths: Number of tokens of each row.
        size: Rows of a microbatch; the last may have fewer.
    """
    if size >= len(lengths):
        return [batch]
    chunks = cut(range(len(lengths)), size)
    if "position_ids" in batch:  # joined
        num_tokens = [sum(lengths[row] for row in chunk) for chunk in chunks]
        split = {
            name: tensor.split(num_tokens, 1) if tensor.dim() > 1 else tensor.split(size)
            for name, tensor in batch.items()
        }
        return [{name: tensors[index] for name, tensors in split.items()} for index in range(len(chunks))]
    microbatches = []
    for chunk in chunks:
        rows, width = slice(chunk[0], chunk[-1] + 1), max(lengths[row] for row in chunk)
        microbatches.append({name: t[rows, :width] if t.dim() > 1 else t[rows] for name, t in batch.items()})
    return microbatches
