"""Stores the rows of a run: up to 20,000 rows in memory, more in a temporary Arrow file."""

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
"""Number of rows above which all rows are stored in a file."""

BATCH = 1000
"""Number of rows written or read at once."""

SCHEMA = pyarrow.schema([("row", pyarrow.large_binary()), ("source", pyarrow.string())])
"""Each row is one pickled value, because a column of JSON rows may have values of different types."""

FIELDS = [field.name for field in fields(Row)]

Indices = np.ndarray[Any, np.dtype[np.int64]]


class StoredRows(Sequence[Row]):
    """Rows in a temporary file without a name; a row is read from the file each time it is accessed.

    The file's disk space is freed with the last object that uses it.
    """

    def __init__(self, table: pyarrow.Table, indices: Indices) -> None:
        """Make a sequence of the rows at `indices` of a file.

        Args:
            table: All rows of the file, memory-mapped.
            indices: Indices in `table` of the rows of this sequence.
        """
        self.table = table
        self.indices = indices

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.indices)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in order; one batch at a time is in memory."""
        for start in range(0, len(self), BATCH):
            batch = self.table.take(pyarrow.array(self.indices[start : start + BATCH]))
            for data in batch.column("row"):
                yield _read(data)

    def sources(self) -> list[str]:
        """Return for each row the name of its source."""
        names = self.table.column("source").take(pyarrow.array(self.indices))
        return [str(name) for name in names.to_pylist()]

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredRows": ...
    def __getitem__(self, index: int | slice) -> "Row | StoredRows":
        """Return one row, or the rows of a slice, which stay in the file."""
        if isinstance(index, slice):
            return StoredRows(self.table, self.indices[index])
        return _read(self.table.column("row")[int(self.indices[index])])


def by_source(rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Row]]]:
    """Yield (source name, rows) for each run of adjacent rows of one source, without reading stored rows."""
    names = rows.sources() if isinstance(rows, StoredRows) else [row.source for row in rows]
    start = 0
    for name, adjacent in groupby(names):
        end = start + sum(1 for _ in adjacent)
        yield name, rows[start:end]
        start = end


def keep_rows(rows: Iterable[Row]) -> Sequence[Row]:
    """Return the rows as a list; if there are more than MOST_IN_MEMORY, as a sequence stored in a file.

    Raises:
        DeviceError: The disk is full.
    """
    iterator = iter(rows)
    first_rows = list(islice(iterator, MOST_IN_MEMORY + 1))
    return first_rows if len(first_rows) <= MOST_IN_MEMORY else _store(first_rows, iterator)


def select(rows: Sequence[Row], indices: Sequence[int]) -> Sequence[Row]:
    """Return the rows at `indices`, in this order; an index may occur more than once.

    Stored rows stay in their file; of a list, the result has the same Row objects.
    """
    if isinstance(rows, StoredRows):
        return StoredRows(rows.table, rows.indices[np.asarray(indices, dtype=np.int64)])
    return [rows[index] for index in indices]


def concatenate(first: Sequence[Row], second: Sequence[Row]) -> Sequence[Row]:
    """Return the rows of both sequences as one sequence.

    Rows that are stored in the same file stay there; all others are read into a list.
    """
    if isinstance(first, StoredRows) and isinstance(second, StoredRows) and first.table is second.table:
        return StoredRows(first.table, np.concatenate([first.indices, second.indices]))
    return [*first, *second]


def _store(first: list[Row], rest: Iterator[Row]) -> StoredRows:
    """Write rows to a temporary file and delete its name.

    The disk space is free when the result is deleted.
    """
    with tempfile.NamedTemporaryFile(prefix="workbench-rows-", suffix=".arrow") as file:
        try:
            with pyarrow.ipc.new_file(file.name, SCHEMA) as writer:
                while first:
                    batch, first = first[:BATCH], first[BATCH:] or list(islice(rest, BATCH))
                    writer.write_batch(
                        pyarrow.record_batch(
                            [[_pickled(row) for row in batch], [row.source for row in batch]], schema=SCHEMA
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


def _pickled(row: Row) -> bytes:
    return pickle.dumps([getattr(row, name) for name in FIELDS], protocol=5)


def _read(data: pyarrow.LargeBinaryScalar) -> Row:
    # Safe to unpickle: this process has written the file, and no other process could open it.
    return Row(*pickle.loads(data.as_buffer()))
