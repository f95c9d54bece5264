"""Which rows come together in a batch, and in which order: by the seed alone, whatever else draws numbers."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from datasets import Dataset as Rows
from torch.utils.data import Dataset, Sampler

from workbench.config.train import TrainConfig
from workbench.data.packing import best_fit, cut
from workbench.errors import ConfigError
from workbench.labels import IGNORED

NEIGHBOURHOOD = 50
"""Optimizer steps whose rows `train.group_by_length` sorts together: enough to save padding, still random."""


class WithGhost(Dataset[Any]):
    """The rows, and behind the last one a ghost: a row without labels, where a process would have none."""

    def __init__(self, rows: Rows) -> None:
        """Keep the rows."""
        self.rows = rows

    def __len__(self) -> int:
        """The ghost counts too."""
        return len(self.rows) + 1

    def __getitem__(self, number: int) -> dict[str, Any]:
        """A row; the ghost looks like the first one."""
        if number < len(self.rows):
            return dict(self.rows[number])
        row = dict(self.rows[0])
        given = row["labels"]
        labels = [IGNORED] * len(given) if isinstance(given, list) else type(given)(IGNORED)
        return {**row, "labels": labels, "row": number}


class Batches(Sampler[list[int]]):
    """Row numbers, a batch at a time; every epoch has the same number of batches.

    Several processes take turns at the batches of one: what is trained together in a step is the same
    whether one process takes four batches a step or two take two.
    """

    drop_last = False

    def __init__(
        self,
        lengths: Sequence[int],
        train: TrainConfig,
        seed: int,
        *,
        joined: bool,
        ranks: tuple[int, int] = (0, 1),
    ) -> None:
        """Plan the batches.

        Args:
            lengths: Tokens of each row.
            train: Rows or tokens a batch.
            seed: Of the order.
            joined: Whether a batch has no padding, so that its size is the sum of its rows.
            ranks: The number of this process, and how many there are.

        Raises:
            ConfigError: A row that is longer than a batch may be.
        """
        self.lengths = lengths
        self.size = train.per_device_batch_size
        self.rank, self.world = ranks
        self.step_size = self.size * train.gradient_accumulation_steps * self.world
        self.grouped = train.group_by_length
        self.seed = seed
        self.epoch = 0
        self.fixed = self.budgeted(train.max_tokens_per_batch, joined) if train.max_tokens_per_batch else None

    def set_epoch(self, epoch: int) -> None:
        """Turn to the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches an epoch, of this process."""
        batches = len(self.fixed) if self.fixed is not None else -(-len(self.lengths) // self.size)
        return -(-batches // self.world)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the epoch that are this process's."""
        return iter(share(self.ordered(), len(self.lengths), self.rank, self.world))

    def ordered(self) -> list[list[int]]:
        """The batches of the epoch, of all processes."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.fixed is not None:
            return [self.fixed[number] for number in shuffled(len(self.fixed), generator)]
        rows = shuffled(len(self.lengths), generator)
        if not self.grouped:
            return cut(rows, self.size)
        near = (sorted(part, key=self.length) for part in cut(rows, self.step_size * NEIGHBOURHOOD))
        steps = list(chain.from_iterable(cut(part, self.step_size) for part in near))
        order = shuffled(len(steps), generator)
        order.sort(key=lambda number: len(steps[number]) < self.step_size)  # the last one may have fewer rows
        return list(chain.from_iterable(cut(steps[number], self.size) for number in order))

    def length(self, row: int) -> int:
        """Tokens of a row."""
        return self.lengths[row]

    def budgeted(self, budget: int, joined: bool) -> list[list[int]]:
        """Batches of at most `budget` tokens, padding included."""
        longest = max(self.lengths)
        if longest > budget:
            raise ConfigError(
                f"train.max_tokens_per_batch: {budget} is less than the longest row, {longest} tokens "
                "(raise it, or lower data.max_length)"
            )
        if joined:
            return best_fit(self.lengths, budget)
        batches: list[list[int]] = [[]]
        for row in sorted(range(len(self.lengths)), key=self.length):  # the last of a batch is its longest
            if (len(batches[-1]) + 1) * self.lengths[row] > budget:
                batches.append([])
            batches[-1].append(row)
        return batches


def shuffled(count: int, generator: torch.Generator) -> list[int]:
    """The numbers below `count`, in a random order."""
    return torch.randperm(count, generator=generator).tolist()


def share(batches: Sequence[list[int]], ghost: int, rank: int, world: int) -> list[list[int]]:
    """Every `world`-th batch from number `rank` on; all get as many, the last ones maybe a ghost."""
    missing = -len(batches) % world
    return [*batches, *[[ghost]] * missing][rank::world]
