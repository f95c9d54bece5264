"""Micro-batches in pieces, where memory doesn't hold them whole: the same gradient, fewer rows at once."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.packing import cut
from workbench.errors import TrainingError
from workbench.training.counters import Meter

log = logging.getLogger("workbench")

Batch = dict[str, Any]
Once = Callable[[Batch], Tensor]


class Pieces:
    """Trains on the micro-batches of an optimizer step; when memory runs out, anew with half the rows.

    A step of 8 rows then is one of 2 x 4: the same rows, divisor and random numbers, as if
    `train.per_device_batch_size` had been half and `train.gradient_accumulation_steps` double from the start.
    """

    def __init__(self, model: nn.Module, meter: Meter, size: int | None, *, possible: bool) -> None:
        """Begin with whole micro-batches, or in the pieces that `meter` says.

        Args:
            model: Its gradients are dropped when a step is begun anew.
            meter: Keeps the number of pieces, so that a resumed training has them too.
            size: Rows of a micro-batch; None: they vary.
            possible: Whether the loss of pieces adds up, and no other process waits for this one's.
        """
        self.model = model
        self.meter = meter
        self.size = size
        self.possible = possible
        self.step = -1
        self.begun: list[tuple[Batch, Sequence[int]]] = []

    def train(
        self, step: int, batch: Batch, lengths: Sequence[int], once: Callable[[Batch], Tensor]
    ) -> Tensor:
        """The loss of one micro-batch, whose gradient is added to the model's.

        Args:
            step: The optimizer step that it belongs to.
            batch: Padded, or joined to one row.
            lengths: Tokens of each row in it.
            once: Goes forward and backward on a batch, and gives its share of the step's loss.

        Raises:
            TrainingError: Not even a single row fits.
        """
        if step != self.step:
            self.step, self.begun = step, []
        self.begun.append((batch, lengths))
        loss = self.attempt(self.begun[-1:], once)
        while loss is None:
            self.halve()
            self.model.zero_grad()
            loss = self.attempt(self.begun, once)
        return loss

    def attempt(self, batches: Sequence[tuple[Batch, Sequence[int]]], once: Once) -> Tensor | None:
        """The loss of the last of some micro-batches, after training on all; None where memory ran out."""
        loss = None
        try:
            for batch, lengths in batches:
                rows = self.rows_at_once(len(lengths))
                loss = torch.stack([once(piece) for piece in pieces(batch, lengths, rows)]).sum()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return loss

    def halve(self) -> None:
        """Go on with half as many rows at once.

        Raises:
            TrainingError: It is one row already, or can't be halved here.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rows = max(self.rows_at_once(len(lengths)) for _, lengths in self.begun)
        if rows == 1 or not self.possible:
            longest = max(max(lengths) for _, lengths in self.begun)
            raise TrainingError(
                f"train: out of memory at step {self.step + 1}, with {rows} rows at once of up to {longest} "
                "tokens (recipe=plan says what would fit)"
            )
        self.meter.pieces *= 2
        log.warning(
            "train: out of memory at step %d; %d rows are now taken in %d pieces, for the same result",
            self.step + 1,
            self.size or max(len(lengths) for _, lengths in self.begun),
            self.meter.pieces,
        )

    def rows_at_once(self, count: int) -> int:
        """Of a micro-batch of `count` rows."""
        return min(count, -(-(self.size or count) // self.meter.pieces))


def pieces(batch: Batch, lengths: Sequence[int], size: int) -> list[Batch]:
    """The batch in pieces of `size` rows, each as the collator would have made it.

    Args:
        batch: Of tensors: (rows, width) padded, (1, all tokens) joined, or (rows,).
        lengths: Tokens of each row.
        size: Rows of a piece; the last may have fewer.
    """
    if size >= len(lengths):
        return [batch]
    parts = cut(range(len(lengths)), size)
    if "position_ids" in batch:  # joined
        tokens = [sum(lengths[row] for row in part) for part in parts]
        split = {
            name: tensor.split(tokens, 1) if tensor.dim() > 1 else tensor.split(size)
            for name, tensor in batch.items()
        }
        return [{name: found[number] for name, found in split.items()} for number in range(len(parts))]
    found = []
    for part in parts:
        rows, width = slice(part[0], part[-1] + 1), max(lengths[row] for row in part)
        found.append({name: t[rows, :width] if t.dim() > 1 else t[rows] for name, t in batch.items()})
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the GPU or of the machine, ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
