"""Plans which rows form a batch and in which order, from the seed alone, not from the global random state."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from datasets import Dataset as Rows
from torch.utils.data import Dataset, Sampler

from workbench.config.names import IGNORED
from workbench.config.train import TrainConfig
from workbench.data.packing import best_fit, cut
from workbench.errors import ConfigError

SORTED_STEPS = 50
"""Optimizer steps whose rows `train.group_by_length` sorts together.

They are enough to save padding, and few enough to leave the order random.
"""


class PaddedDataset(Dataset[Any]):
    """A data set plus one dummy row, all of whose labels are -100.

    A rank without a batch of its own at the end of an epoch takes the dummy row: all ranks must run the same
    number of batches.
    """

    def __init__(self, rows: Rows) -> None:
        """Wrap a data set; the dummy row has the index `len(rows)`."""
        self.rows = rows

    def __len__(self) -> int:
        """Return the number of rows, the dummy row included."""
        return len(self.rows) + 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a copy of one row; the dummy row is a copy of the first row with -100 as each label."""
        if index < len(self.rows):
            return dict(self.rows[index])
        row = dict(self.rows[0])
        labels = row["labels"]
        ignored = [IGNORED] * len(labels) if isinstance(labels, list) else type(labels)(IGNORED)
        return {**row, "labels": ignored, "row": index}


class Batches(Sampler[list[int]]):
    """Batch sampler that yields one rank's batches as lists of row indices, equally many in every epoch.

    The ranks take batches from one sequence in turn, so that an optimizer step covers the same rows whether
    one process takes four batches a step or two processes take two each.
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
            lengths: Number of tokens of each row.
            train: The section `train` of the configuration, with rows or tokens per batch.
            seed: Seed of the row order.
            joined: Whether a batch is concatenated without padding: its size is the sum of its rows' lengths.
            ranks: Rank of this process and the number of processes.

        Raises:
            ConfigError: A row is longer than `train.max_tokens_per_batch`.
        """
        self.lengths = lengths
        self.batch_size = train.per_device_batch_size
        self.rank, self.world_size = ranks
        self.rows_per_step = self.batch_size * train.gradient_accumulation_steps * self.world_size
        self.group_by_length = train.group_by_length
        self.seed = seed
        self.epoch = 0
        limit = train.max_tokens_per_batch
        self.token_limited = self._token_limited_batches(limit, joined) if limit else None
        """With `train.max_tokens_per_batch`, the batches of every epoch, in no order; else None."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order the next iteration has."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches that this rank takes in an epoch."""
        if self.token_limited is not None:
            num_batches = len(self.token_limited)
        else:
            num_batches = -(-len(self.lengths) // self.batch_size)
        return -(-num_batches // self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's batches of the epoch, each as row indices."""
        return iter(batches_of_rank(self.epoch_batches(), len(self.lengths), self.rank, self.world_size))

    def epoch_batches(self) -> list[list[int]]:
        """Return the batches of all ranks in the epoch of `set_epoch`, each as row indices."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.token_limited is not None:
            return [self.token_limited[index] for index in permutation(len(self.token_limited), generator)]
        rows = permutation(len(self.lengths), generator)
        if not self.group_by_length:
            return cut(rows, self.batch_size)
        by_length = (sorted(chunk, key=self.length) for chunk in cut(rows, self.rows_per_step * SORTED_STEPS))
        steps = list(chain.from_iterable(cut(chunk, self.rows_per_step) for chunk in by_length))
        order = permutation(len(steps), generator)
        order.sort(key=lambda index: len(steps[index]) < self.rows_per_step)  # an incomplete step comes last
        return list(chain.from_iterable(cut(steps[index], self.batch_size) for index in order))

    def length(self, row: int) -> int:
        """Return the number of tokens of a row."""
        return self.lengths[row]

    def _token_limited_batches(self, limit: int, joined: bool) -> list[list[int]]:
        """Group all rows into batches of at most `limit` tokens each; unless `joined`, padding counts."""
        longest = max(self.lengths)
        if longest > limit:
            raise ConfigError(
                f"train.max_tokens_per_batch: {limit} is less than the longest row, {longest} tokens "
                "(raise it, or lower data.max_length)"
            )
        if joined:
            return best_fit(self.lengths, limit)
        batches: list[list[int]] = [[]]
        for row in sorted(
            range(len(self.lengths)), key=self.length
        ):  # the last row of a batch is its longest
            if (len(batches[-1]) + 1) * self.lengths[row] > limit:
                batches.append([])
            batches[-1].append(row)
        return batches


def permutation(count: int, generator: torch.Generator) -> list[int]:
    """Return the integers from 0 to `count - 1` in random order, drawn from `generator`."""
    return torch.randperm(count, generator=generator).tolist()


def batches_of_rank(
    batches: Sequence[list[int]], dummy_row: int, rank: int, world_size: int
) -> list[list[int]]:
    """Return the batches of one rank: every `world_size`-th batch, beginning with index `rank`.

    If the ranks can't get equally many batches, each of the last ranks gets one more batch, `[dummy_row]`.
    """
    num_missing = -len(batches) % world_size
    return [*batches, *[[dummy_row]] * num_missing][rank::world_size]
