"""Rows kept for a whole run: few of them in memory, many in an Arrow file on the disk."""

import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import groupby, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow

from workbench.data.readers.row import Row
from workbench.errors import DeviceError
from workbench.file_errors import has_no_room, reason_for_no_room

MOST_IN_MEMORY = 20_000
"""Rows; of more than these none stays in memory."""

BATCH = 1000
"""Rows written or read at once."""

SCHEMA = pyarrow.schema([("row", pyarrow.large_binary()), ("source", pyarrow.string())])
"""Each row as one value, since the columns of JSON rows may hold values of different types."""

FIELDS = [field.name for field in fields(Row)]

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class StoredRows(Sequence[Row]):
    """Rows of a file that nobody else can open; each is read when it is asked for."""

    def __init__(self, table: pyarrow.Table, numbers: Numbers) -> None:
        """Take the file's rows.

        Args:
            table: All rows of the file, memory-mapped.
            numbers: Which of them these are, in their order.
        """
        self.table = table
        self.numbers = numbers

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[Row]:
        """The rows in their order, of which a batch is in memory at a time."""
        for start in range(0, len(self), BATCH):
            batch = self.table.take(pyarrow.array(self.numbers[start : start + BATCH]))
            for data in batch.column("row"):
                yield _read(data)

    def sources(self) -> list[str]:
        """The name of each row's source."""
        return [
            str(name) for name in self.table.column("source").take(pyarrow.array(self.numbers)).to_pylist()
        ]

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredRows": ...
    def __getitem__(self, index: int | slice) -> "Row | StoredRows":
        """A row, or some of the rows."""
        if isinstance(index, slice):
            return StoredRows(self.table, self.numbers[index])
        return _read(self.table.column("row")[int(self.numbers[index])])


def by_source(rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Row]]]:
    """The rows in runs of the same source, each with its source's name; rows of a file stay in it."""
    names = rows.sources() if isinstance(rows, StoredRows) else [row.source for row in rows]
    start = 0
    for name, same in groupby(names):
        end = start + sum(1 for _ in same)
        yield name, rows[start:end]
        start = end


def keep_rows(rows: Iterable[Row]) -> Sequence[Row]:
    """The rows in a form that may be kept: a list, or where there are many of them a file on the disk.

    Raises:
        DeviceError: The disk is full.
    """
    iterator = iter(rows)
    few = list(islice(iterator, MOST_IN_MEMORY + 1))
    return few if len(few) <= MOST_IN_MEMORY else _stored(few, iterator)


def chosen(rows: Sequence[Row], numbers: Sequence[int]) -> Sequence[Row]:
    """The rows of these numbers, in this order; a number may come twice."""
    if isinstance(rows, StoredRows):
        return StoredRows(rows.table, rows.numbers[np.asarray(numbers, dtype=np.int64)])
    return [rows[number] for number in numbers]


def joined(first: Sequence[Row], second: Sequence[Row]) -> Sequence[Row]:
    """The rows of one part of a data set and behind them those of another part of it."""
    if isinstance(first, StoredRows) and isinstance(second, StoredRows) and first.table is second.table:
        return StoredRows(first.table, np.concatenate([first.numbers, second.numbers]))
    return [*first, *second]


def _stored(first: list[Row], rest: Iterator[Row]) -> StoredRows:
    """The rows in a temporary file, which has no name any more when this returns and vanishes with them."""
    with tempfile.NamedTemporaryFile(prefix="workbench-rows-", suffix=".arrow") as file:
        try:
            with pyarrow.ipc.new_file(file.name, SCHEMA) as writer:
                while first:
                    batch, first = first[:BATCH], first[BATCH:] or list(islice(rest, BATCH))
                    writer.write_batch(
                        pyarrow.record_batch(
                            [[_written(row) for row in batch], [row.source for row in batch]], schema=SCHEMA
                        )
                    )
        except OSError as error:
            if not has_no_room(error):
                raise
            raise DeviceError(
                f"{Path(file.name).parent}: no room for the rows, {reason_for_no_room(error)} (the "
                "environment variable TMPDIR names another folder, or data.streaming=true)"
            ) from error
        table = pyarrow.ipc.open_file(pyarrow.memory_map(file.name)).read_all()
    return StoredRows(table, np.arange(len(table), dtype=np.int64))


def _written(row: Row) -> bytes:
    return pickle.dumps([getattr(row, name) for name in FIELDS], protocol=5)


def _read(data: pyarrow.LargeBinaryScalar) -> Row:
    # No foreign bytes: the file has been written by this process, and has had no name since.
    return Row(*pickle.loads(data.as_buffer()))
