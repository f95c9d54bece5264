"""Counts tokens, losses and seconds of a training over all its sessions; a resumed training counts on."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from workbench.distributed import all_reduce_sum, rank_and_world_size
from workbench.machine import peak_resident_bytes

MEASURED = ("seconds", "tokens_per_second", "peak_bytes")
"""Keys of a train.jsonl line whose values depend on the machine and its load."""

SAVED = {
    "tokens": "tokens",
    "trained": "unmasked_tokens",
    "seconds": "total_seconds",
    "losses": "losses",
    "pieces": "num_splits",
    "validation_before": "initial_validation_loss",
}
"""Key of a counter in a checkpoint's manifest -> attribute of TrainCounters."""


@dataclass
class TrainCounters:
    """Counters of a training since its first step, over all ranks and sessions.

    A session is the time of one process, from its start or resumption to its end.
    """

    tokens: int = 0
    """Tokens of all steps, without padding."""
    unmasked_tokens: int = 0
    """Tokens of all steps with a label other than -100; for a classifier, rows."""
    earlier_seconds: float = 0.0
    """Seconds of the sessions before this one."""
    losses: list[float] = field(default_factory=list)
    """Mean loss over all ranks of each step since the last line of train.jsonl."""
    step_losses: list[tuple[Tensor, list[int]]] = field(default_factory=list)
    """Loss and row indices of this rank's batches in the current step."""
    step_tokens: int = 0
    """Tokens of this rank in the current step."""
    step_unmasked_tokens: int = 0
    """Unmasked tokens of this rank in the current step."""
    step_rows: list[int] = field(default_factory=list)
    """Row indices of this rank in the current step."""
    nonfinite_rows: list[int] = field(default_factory=list)
    """Indices of this rank's rows in batches whose loss was infinite or NaN."""
    num_splits: int = 1
    """Number of microbatches that each batch is split into since memory ran out; 1: no split."""
    initial_validation_loss: float | None = None
    """Validation loss before the first step; None: there are no validation rows."""
    started: float = field(default_factory=time.perf_counter)
    """Value of the clock at which this session began."""
    earlier_tokens: int = 0
    """Tokens of the sessions before this one."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue counting from the counters in a checkpoint's manifest, as `state_dict` returned them."""
        for key, value in state.items():
            setattr(self, "earlier_seconds" if key == "seconds" else SAVED[key], value)
        self.earlier_tokens = self.tokens

    def state_dict(self) -> dict[str, Any]:
        """Return the counters that a checkpoint's manifest stores."""
        return {key: getattr(self, name) for key, name in SAVED.items()}

    def end_step(self) -> None:
        """Add the current step's loss and tokens, of all ranks, to the totals; every rank must call this.

        The sums of the step (`step_losses` and others, but not `step_rows`) are empty afterwards.
        """
        loss, tokens, unmasked = all_reduce_sum(
            self._read_losses(), self.step_tokens, self.step_unmasked_tokens
        )
        self.losses.append(loss / rank_and_world_size()[1])  # DDP averages the gradients over the ranks
        self.tokens += int(tokens)
        self.unmasked_tokens += int(unmasked)
        self.step_losses, self.step_tokens, self.step_unmasked_tokens = [], 0, 0

    def _read_losses(self) -> float:
        """Return the sum of the step's losses, read from the device at once; note rows of infinite ones."""
        if not self.step_losses:
            return 0.0
        losses: list[float] = torch.stack([loss for loss, _ in self.step_losses]).tolist()
        for loss, (_, rows) in zip(losses, self.step_losses, strict=True):
            if not math.isfinite(loss):
                self.nonfinite_rows += rows
        return sum(losses)

    def pop_mean_loss(self) -> float:
        """Return the mean of `losses` (at least one), those since the last call, and empty the list."""
        mean = sum(self.losses) / len(self.losses)
        self.losses = []
        return mean

    def log_values(self) -> dict[str, float]:
        """Return the fields that a line of train.jsonl has besides the loss.

        They are tokens, trained_tokens (those with loss), seconds, tokens_per_second and peak_bytes.
        """
        return {
            "tokens": self.tokens,
            "trained_tokens": self.unmasked_tokens,
            "seconds": round(self.total_seconds, 3),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "peak_bytes": peak_bytes(),
        }

    @property
    def session_seconds(self) -> float:
        """Seconds since this session began."""
        return time.perf_counter() - self.started

    @property
    def total_seconds(self) -> float:
        """Seconds of all sessions."""
        return self.earlier_seconds + self.session_seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens without padding per second of this session."""
        return (self.tokens - self.earlier_tokens) / max(self.session_seconds, 1e-9)


def peak_bytes() -> int:
    """Return the peak memory in bytes: PyTorch's on all GPUs that it has used, else that of the process."""
    on_gpus = sum(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
    return on_gpus or peak_resident_bytes()
