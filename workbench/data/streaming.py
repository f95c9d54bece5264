"""Reads and encodes data that doesn't fit into memory, in blocks of rows, into memory-mapped files."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import datasets
import pyarrow

from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.data.encode import Encoding, examples_of
from workbench.data.encoded import Encoded, as_dataset
from workbench.data.holdout import drawn, prompt_keys
from workbench.data.row_counts import Account
from workbench.data.rows import Row, check_places, read_rows, sourced
from workbench.errors import DataError
from workbench.files import clear_the_way

BLOCK = 5000
"""Rows in memory at once; packing combines only rows of the same block."""


@dataclass
class Side:
    """Writes the encoded training rows, or the encoded held-out rows, to an Arrow file."""

    file: Path
    account: Account = field(default_factory=Account)
    """Counts of all rows that were added."""
    writer: pyarrow.RecordBatchStreamWriter | None = None
    """None until the first example is written."""

    def add(self, rows: Sequence[Row], encoding: Encoding) -> None:
        """Encode rows, append the examples to the file, and add the counts to `account`.

        The first examples replace an existing file.

        Raises:
            DataError: A row can't be read.
        """
        block = Account(num_rows=len(rows))
        examples = examples_of(rows, encoding, block)
        if examples:
            table = as_dataset(examples, encoding.data, block, first=self.account.num_examples).data.table
            if self.writer is None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                self.writer = pyarrow.ipc.new_stream(str(clear_the_way(self.file)), table.schema)
            self.writer.write_table(table)
        self.account.add(block)

    def done(self) -> Encoded | None:
        """Close the file and return it as a memory-mapped data set, with counts; None if it has no rows."""
        if self.writer is None:
            return None
        self.writer.close()
        return Encoded(datasets.Dataset.from_file(str(self.file)), self.account)


def streamed_rows(data: DataConfig, seed: int) -> Iterator[Row]:
    """Yield the rows of each source in turn, each row as often as the source's weight says.

    A weight of 2.3 yields each row twice, and once more with probability 0.3, drawn from `seed`. At most the
    first `limit` rows of a source are read.

    Raises:
        DataError, ConfigError: As `read_rows` and `check_places` say.
    """
    check_places(data)
    for name, source, weight in sourced(data):
        generator = random.Random(f"{seed} {name}")
        for row in islice(read_rows(source, name), source.limit):
            for _ in range(int(weight) + (generator.random() < weight % 1)):
                yield row


def encode_streamed(encoding: Encoding, folder: Path, seed: int) -> tuple[Encoded, Encoded | None]:
    """Encode all rows of `encoding.data` into train.arrow and validation.arrow in `folder`.

    Returns (training rows, held-out rows), memory-mapped; the second is None if no row is held out, see
    `are_held_out`. `seed` draws the rows of fractional weights.

    Raises:
        DataError: A row can't be read, or nothing is left to train on.
        ConfigError: As in `streamed_rows`.
    """
    data = encoding.data
    training, held_out = Side(folder / "train.arrow"), Side(folder / "validation.arrow")
    rows = streamed_rows(data, seed)
    while block := list(islice(rows, BLOCK)):
        chosen = are_held_out(block, data, encoding.task)
        for side, takes_held_out in ((training, False), (held_out, True)):
            side_rows = [row for row, held in zip(block, chosen, strict=True) if held is takes_held_out]
            side.add(side_rows, encoding)
    encoded = training.done()
    if encoded is None:
        raise DataError(f"data.path: nothing of {', '.join(data.paths())} is left to train on")
    return encoded, held_out.done()


def are_held_out(rows: Sequence[Row], data: DataConfig, task: Task) -> list[bool]:
    """Return for each row whether it is held out: `data.validation_fraction` of the last prompts are.

    A hash of the prompt decides, so rows with the same last prompt are on one side. If the fraction is 0 or
    None, no row is held out.

    Raises:
        DataError: A row can't be read as a prompt.
    """
    if not data.validation_fraction:
        return [False] * len(rows)
    threshold = data.validation_fraction * 2**64
    prompts = [row_keys[-1] for row_keys in prompt_keys(rows, data, task)]
    return [int.from_bytes(drawn(prompt)[:8]) < threshold for prompt in prompts]
