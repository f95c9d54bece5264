"""Counts the work of a training from its rows: steps, tokens, largest batch."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from datasets import Dataset

from workbench.config.names import IGNORED
from workbench.config.train import TrainConfig
from workbench.distributed import rank_and_world_size
from workbench.training.arguments import total_steps
from workbench.training.batches import Batches
from workbench.training.estimate.memory import Batch

MAX_EPOCHS = 20
"""Largest number of epochs whose batches are counted; longer trainings are extrapolated."""


@dataclass(frozen=True)
class Forecast:
    """Amount of work of a training: its steps and tokens."""

    steps: int
    tokens: int
    """Tokens of all steps, padding included."""
    labelled: int
    """Tokens with loss among them; for a classifier, rows."""
    mean_length: float
    """Mean over all tokens of the length of the token's text, so that a long text counts more."""
    largest: Batch
    """The batch with the most tokens."""


@dataclass(frozen=True)
class RowSizes:
    """Sizes in tokens of the rows of a training."""

    lengths: Sequence[int]
    """Tokens of each row."""
    labelled: Sequence[int]
    """Tokens with loss in each row; for a classifier, 1."""
    mean_length: float
    """Mean over all tokens of the length of the token's text, so that a long text counts more."""
    joined: bool
    """Whether a batch is concatenated without padding, so that its size is the sum of its rows' lengths."""


def row_sizes(dataset: Dataset) -> RowSizes:
    """Return the sizes of the rows of an encoded data set, which must have a row."""
    lengths: list[int] = list(dataset["length"])
    squares = sum(length * length for row in text_lengths(dataset, lengths) for length in row)
    return RowSizes(
        lengths,
        [count_labels(labels) for labels in dataset["labels"]],
        squares / sum(lengths),
        isinstance(dataset[0]["labels"], list),
    )


def forecast(rows: RowSizes, train: TrainConfig, seed: int) -> Forecast:
    """Count the steps and tokens of a training, of all ranks together.

    Args:
        rows: Sizes of the rows.
        train: Batches and steps.
        seed: Seed of the row order.
    """
    lengths, joined = rows.lengths, rows.joined
    batches = Batches(lengths, train, seed, joined=joined, ranks=rank_and_world_size())
    steps = total_steps(len(batches), train)
    counted, factor = counted_batches(batches, steps, train.gradient_accumulation_steps)

    def tokens(batch: Sequence[int]) -> int:
        sizes = [lengths[row] for row in batch]
        return sum(sizes) if joined else max(sizes) * len(sizes)

    def labelled(batch: Sequence[int]) -> int:
        return sum(rows.labelled[row] for row in batch)

    largest = max(counted, key=tokens)
    return Forecast(
        steps=steps,
        tokens=round(factor * sum(tokens(batch) for batch in counted)),
        labelled=round(factor * sum(labelled(batch) for batch in counted)),
        mean_length=rows.mean_length,
        largest=Batch(len(largest), tokens(largest), labelled(largest)),
    )


def counted_batches(batches: Batches, steps: int, accumulation: int) -> tuple[list[list[int]], float]:
    """Return (all ranks' batches of the first epochs, how many times as many batches all `steps` have).

    With less than MAX_EPOCHS full epochs, all batches are returned, and the factor is 1; else those of the
    first MAX_EPOCHS. The last step of an epoch has fewer batches if `accumulation` doesn't divide their
    number. `batches` is left at the last epoch counted.
    """
    num_epochs, num_left_steps = divmod(steps, math.ceil(len(batches) / accumulation))
    counted: list[list[int]] = []
    for epoch in range(min(MAX_EPOCHS, num_epochs + 1)):
        batches.set_epoch(epoch)
        order = batches.epoch_batches()
        counted += (
            order if epoch < num_epochs else order[: num_left_steps * accumulation * batches.world_size]
        )
    if num_epochs < MAX_EPOCHS:
        return counted, 1.0
    return counted, (num_epochs + num_left_steps * accumulation / len(batches)) / MAX_EPOCHS


def count_labels(labels: Sequence[int] | float) -> int:
    """Return the number of labels with loss: of a list, those that aren't masked; else 1."""
    return 1 if isinstance(labels, int | float) else len(labels) - list(labels).count(IGNORED)


def text_lengths(dataset: Dataset, lengths: Sequence[int]) -> list[list[int]]:
    """Return for each row the lengths of the texts packed into it; without packing, the row's length."""
    if "position_ids" not in dataset.column_names:
        return [[length] for length in lengths]
    packed = []
    for positions in dataset["position_ids"]:
        starts = [index for index, position in enumerate(positions) if position == 0] + [len(positions)]
        packed.append([end - start for start, end in zip(starts, starts[1:], strict=False)])
    return packed


def product_rate(dtype: torch.dtype, width: int, inner: int) -> float:
    """Measure matrix products on the CPU; return the FLOP per second of the fastest.

    The products are of (tokens, width) and (width, inner) matrices: six, with 64 tokens at first and 1,024
    in the end, but no further one after half a second.
    """
    weight = torch.zeros(inner, width, dtype=dtype)
    rates: list[float] = []
    begin = time.perf_counter()
    for num_tokens in (64, 256, 1024, 1024, 1024, 1024):
        tokens = torch.zeros(num_tokens, width, dtype=dtype)
        start = time.perf_counter()
        torch.nn.functional.linear(tokens, weight)
        end = time.perf_counter()
        rates.append(2 * num_tokens * width * inner / (end - start))
        if end - begin > 0.5:  # float16 on a processor without it would take half a minute
            break
    return max(rates)


def in_words(seconds: float) -> str:
    """Return a number of seconds as text in seconds, minutes or hours, such as `12 minutes`."""
    if seconds < 90:
        return "1 second" if seconds < 1.5 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"
