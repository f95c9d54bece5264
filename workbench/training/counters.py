"""What a training has seen so far, counted so that an interruption leaves no trace in it."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from workbench.distributed import all_reduce_sum, rank_and_world_size
from workbench.machine import peak_resident_bytes

MEASURED = ("seconds", "tokens_per_second", "peak_bytes")
"""What in a line of train.jsonl depends on the machine and the hour."""


@dataclass
class Meter:
    """Counters since the first step, over all sessions and processes."""

    tokens: int = 0
    """Tokens that were no padding."""
    trained: int = 0
    """Of these, tokens that a loss fell on; for a classifier, rows."""
    seconds: float = 0.0
    """In earlier sessions."""
    losses: list[float] = field(default_factory=list)
    """Of the steps since the last line of train.jsonl."""
    step_loss: float = 0.0
    """Of the step under way, in this process: the parts of its micro-batches."""
    step_tokens: int = 0
    """Likewise."""
    step_trained: int = 0
    """Likewise."""
    step_rows: list[int] = field(default_factory=list)
    """Of this process, in the step under way."""
    bad_rows: list[int] = field(default_factory=list)
    """Of this process, whose loss is infinite or no number."""
    pieces: int = 1
    """That each micro-batch is cut into, since memory ran out; 1: it is whole."""
    validation_before: float | None = None
    """The validation loss before the first step; None: nothing is validated."""
    started: float = field(default_factory=time.perf_counter)
    tokens_before: int = 0
    """In earlier sessions."""

    def resume(self, saved: dict[str, Any]) -> None:
        """Take over the counters that a checkpoint holds; the clock goes on."""
        for name, value in saved.items():
            setattr(self, name, value)
        self.tokens_before = self.tokens

    def saved(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        values = asdict(self)
        values["seconds"] = self.total_seconds
        names = ("tokens", "trained", "seconds", "losses", "pieces", "validation_before")
        return {name: values[name] for name in names}

    def end_step(self) -> None:
        """Close the step under way, with what all processes saw of it."""
        loss, tokens, trained = all_reduce_sum(self.step_loss, self.step_tokens, self.step_trained)
        self.losses.append(
            loss / rank_and_world_size()[1]
        )  # the Trainer takes the mean of the processes' losses
        self.tokens += int(tokens)
        self.trained += int(trained)
        self.step_loss, self.step_tokens, self.step_trained = 0.0, 0, 0

    def mean_loss(self) -> float:
        """The mean loss of the steps since the last call."""
        mean = sum(self.losses) / len(self.losses)
        self.losses = []
        return mean

    def measured(self) -> dict[str, float]:
        """What is logged beside a loss."""
        return {
            "tokens": self.tokens,
            "trained_tokens": self.trained,
            "seconds": round(self.total_seconds, 3),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "peak_bytes": peak_bytes(),
        }

    @property
    def session_seconds(self) -> float:
        """Since this session began."""
        return time.perf_counter() - self.started

    @property
    def total_seconds(self) -> float:
        """Of all sessions."""
        return self.seconds + self.session_seconds

    @property
    def tokens_per_second(self) -> float:
        """In this session."""
        return (self.tokens - self.tokens_before) / max(self.session_seconds, 1e-9)


def peak_bytes() -> int:
    """The most memory that was held at once: the GPU's where one is in use, else the process's."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return peak_resident_bytes()
