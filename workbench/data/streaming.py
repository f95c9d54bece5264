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
    """Writes the encoded training rows, or the encoded held-out rows, to a file."""

    file: Path
    account: Account = field(default_factory=Account)
    writer: pyarrow.RecordBatchStreamWriter | None = None

    def add(self, rows: Sequence[Row], encoding: Encoding) -> None:
        """Encode rows and append them to the file."""
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
        """Close the file and open it as a data set; None if no row was written."""
        if self.writer is None:
            return None
        self.writer.close()
        return Encoded(datasets.Dataset.from_file(str(self.file)), self.account)


def streamed_rows(data: DataConfig, seed: int) -> Iterator[Row]:
    """Yield the rows of one source after the other, each row as often as the source's weight says.

    The fraction of a weight is the probability that a row is yielded once more.
    """
    check_places(data)
    for name, source, weight in sourced(data):
        generator = random.Random(f"{seed} {name}")
        for row in islice(read_rows(source, name), source.limit):
            for _ in range(int(weight) + (generator.random() < weight % 1)):
                yield row


def encode_streamed(encoding: Encoding, folder: Path, seed: int) -> tuple[Encoded, Encoded | None]:
    """Encode streamed rows into files of `folder`; return the training rows, and the held-out rows or None.

    A hash of its prompt decides whether a row is held out. None: no row is.

    Raises:
        DataError: A row can't be read, or nothing is left to train on.
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
    """Return whether each row is held out: a hash of its last prompt is below `data.validation_fraction`.

    If that is 0 or None, no row is.
    """
    if not data.validation_fraction:
        return [False] * len(rows)
    threshold = data.validation_fraction * 2**64
    prompts = [row_keys[-1] for row_keys in prompt_keys(rows, data, task)]
    return [int.from_bytes(drawn(prompt)[:8]) < threshold for prompt in prompts]
