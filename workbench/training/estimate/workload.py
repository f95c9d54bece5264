"""What a training will do, from its rows alone: its largest batch, its tokens, its time."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from datasets import Dataset

from workbench.config.train import TrainConfig
from workbench.distributed import rank_and_world_size
from workbench.labels import IGNORED
from workbench.training.arguments import total_steps
from workbench.training.batches import Batches
from workbench.training.estimate.memory import Batch

MOST_EPOCHS = 20
"""Whose batches are looked at for the largest."""


@dataclass(frozen=True)
class Forecast:
    """The amount of work of a training."""

    steps: int
    tokens: int
    """Computed in all steps together, padding included."""
    labelled: int
    """Of these, tokens that a loss falls on; for a classifier, rows."""
    mean_length: float
    """Of a text, as its tokens see it."""
    largest: Batch


def forecast(dataset: Dataset, train: TrainConfig, seed: int) -> Forecast:
    """The work, of all processes together, on rows as `workbench.data.encode` makes them.

    Args:
        dataset: The rows.
        train: Batches and steps.
        seed: Of the order.
    """
    lengths: list[int] = list(dataset["length"])
    joined = isinstance(dataset[0]["labels"], list)
    labelled = [count_labels(labels) for labels in dataset["labels"]]
    texts = text_lengths(dataset, lengths)
    batches = Batches(lengths, train, seed, joined=joined, ranks=rank_and_world_size())
    steps = total_steps(len(batches), train)
    seen, share = taken(batches, steps, train.gradient_accumulation_steps)

    def tokens(rows: Sequence[int]) -> int:
        return sum(lengths[row] for row in rows) if joined else max(lengths[row] for row in rows) * len(rows)

    def batch(rows: Sequence[int]) -> Batch:
        return Batch(len(rows), tokens(rows), sum(labelled[row] for row in rows))

    return Forecast(
        steps=steps,
        tokens=round(share * sum(tokens(rows) for rows in seen)),
        labelled=round(share * sum(labelled[row] for rows in seen for row in rows)),
        mean_length=sum(n * n for row in texts for n in row) / sum(lengths),
        largest=batch(max(seen, key=tokens)),
    )


def taken(batches: Batches, steps: int, accumulation: int) -> tuple[list[list[int]], float]:
    """The batches that all processes take in so many steps, and how many times those that are looked at.

    The last step of an epoch has fewer where `accumulation` doesn't divide them.
    """
    whole, rest = divmod(steps, math.ceil(len(batches) / accumulation))
    found: list[list[int]] = []
    for epoch in range(min(MOST_EPOCHS, whole + 1)):
        batches.set_epoch(epoch)
        order = batches.ordered()
        found += order if epoch < whole else order[: rest * accumulation * batches.world]
    share = (whole + rest * accumulation / len(batches)) / MOST_EPOCHS if whole >= MOST_EPOCHS else 1.0
    return found, share


def count_labels(labels: Sequence[int] | float) -> int:
    """Tokens that a loss falls on; a class or a number counts as one."""
    return 1 if isinstance(labels, int | float) else len(labels) - list(labels).count(IGNORED)


def text_lengths(dataset: Dataset, lengths: Sequence[int]) -> list[list[int]]:
    """Of each row the lengths of the texts packed in it, or its own."""
    if "position_ids" not in dataset.column_names:
        return [[length] for length in lengths]
    found = []
    for places in dataset["position_ids"]:
        starts = [number for number, place in enumerate(places) if place == 0] + [len(places)]
        found.append([after - start for start, after in zip(starts, starts[1:], strict=False)])
    return found


def product_rate(dtype: torch.dtype, width: int, inner: int) -> float:
    """Operations a second of this machine's own matrix products of such sizes: the fastest of a few."""
    left, right = torch.zeros(1024, width, dtype=dtype), torch.zeros(inner, width, dtype=dtype)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        seconds.append(time.perf_counter() - start)
    return 2 * 1024 * width * inner / min(seconds)


def duration(seconds: float) -> str:
    """As a person would say it."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"
