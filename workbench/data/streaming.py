"""Rows that memory does not hold: read and encoded a block at a time into files that are mapped."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import datasets
import pyarrow

from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.data.account import Account
from workbench.data.encode import Encoding, examples_of
from workbench.data.encoded import Encoded, as_dataset
from workbench.data.holdout import drawn, prompt_keys
from workbench.data.rows import Row, check_places, read_rows, sourced
from workbench.errors import DataError
from workbench.files import clear_the_way

BLOCK = 5000
"""Rows in memory at once; packing puts together what stands in a block."""


@dataclass
class Side:
    """The rows to train on, or those held out, as far as they have been encoded."""

    file: Path
    account: Account = field(default_factory=Account)
    writer: pyarrow.RecordBatchStreamWriter | None = None

    def add(self, rows: Sequence[Row], encoding: Encoding) -> None:
        """Encode some rows and write them behind those that are there."""
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
        """The data set on the disk; None where nothing came."""
        if self.writer is None:
            return None
        self.writer.close()
        return Encoded(datasets.Dataset.from_file(str(self.file)), self.account)


def streamed_rows(data: DataConfig, seed: int) -> Iterator[Row]:
    """The rows of all sources one after the other; of a weight that is no whole number a random choice."""
    check_places(data)
    for name, source, weight in sourced(data):
        generator = random.Random(f"{seed} {name}")
        for row in islice(read_rows(source, name), source.limit):
            for _ in range(int(weight) + (generator.random() < weight % 1)):
                yield row


def encode_streamed(encoding: Encoding, folder: Path, seed: int) -> tuple[Encoded, Encoded | None]:
    """The rows to train on and those held out, in files of `folder`; equal prompts come to one side.

    Raises:
        DataError: a row that can't be read, or nothing left to train on.
    """
    data = encoding.data
    training, held_out = Side(folder / "train.arrow"), Side(folder / "validation.arrow")
    rows = streamed_rows(data, seed)
    while block := list(islice(rows, BLOCK)):
        chosen = are_held_out(block, data, encoding.task)
        for side, wanted in ((training, False), (held_out, True)):
            part = [row for row, held in zip(block, chosen, strict=True) if held is wanted]
            side.add(part, encoding)
    encoded = training.done()
    if encoded is None:
        raise DataError(f"data.path: nothing of {', '.join(data.paths())} is left to train on")
    return encoded, held_out.done()


def are_held_out(rows: Sequence[Row], data: DataConfig, task: Task) -> list[bool]:
    """Whether each row is for validation, by what stands before its last answer alone."""
    if not data.validation_fraction:
        return [False] * len(rows)
    least = data.validation_fraction * 2**64
    prompts = [row_keys[-1] for row_keys in prompt_keys(rows, data, task)]
    return [int.from_bytes(drawn(prompt)[:8]) < least for prompt in prompts]
