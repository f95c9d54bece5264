"""Rows of Parquet and Arrow files, without the nulls that a column's type gives to fields a row never had."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.data.readers.arrow_sizes import check_arrow_sizes
from workbench.data.readers.layout import Layout
from workbench.data.readers.parquet_sizes import VALUE_BYTES, check_parquet_sizes, most_unfolded, too_large
from workbench.data.readers.row import Row
from workbench.errors import DataError, first_line

if TYPE_CHECKING:
    import pyarrow

ROWS_AT_ONCE = 100
"""Turned into Python objects together."""


def parquet_rows(path: Path, layout: Layout) -> Iterator[Row]:
    """The rows of a Parquet file, a few of them in memory at a time.

    Raises:
        DataError: It is damaged, or unfolds to far more than it holds.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            rows_at_once = check_parquet_sizes(path, file)
            yield from batched_rows(file.iter_batches(batch_size=rows_at_once), path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise DataError(f"{path}: not a readable Parquet file, {first_line(error)}") from error


def arrow_rows(path: Path, layout: Layout) -> Iterator[Row]:
    """The rows of an Arrow file: of the file format, of the stream format, or Feather.

    Raises:
        DataError: It is damaged, or unfolds to far more than it holds.
    """
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as file:
            check_arrow_sizes(path, file)
            yield from batched_rows(pyarrow.ipc.open_stream(file), path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise DataError(f"{path}: not a readable Arrow file, {first_line(error)}") from error


def batched_rows(batches: "Iterator[pyarrow.RecordBatch]", path: Path) -> Iterator[Row]:
    """The rows of all batches as Python objects, counted from 1.

    Raises:
        DataError: They unfold to far more than the file holds, or two columns have one name.
    """
    number = num_bytes = 0
    most = most_unfolded(path)
    for batch in batches:
        check_names(batch.schema.names, path)
        batch.validate(full=True)  # damaged offsets would be followed out of the memory
        announced = batch.num_rows * VALUE_BYTES + sum(map(bytes_by_dictionary, batch.columns))
        if announced > most:
            raise too_large(path, announced)
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            columns = [decoded(column) for column in batch.slice(start, ROWS_AT_ONCE).columns]
            num_bytes += sum(unfolded_bytes(column) for column in columns)
            if num_bytes > most:
                raise too_large(path, num_bytes)
            kinds = [column.type for column in columns]
            for cells in zip(*(column.to_pylist() for column in columns), strict=True):
                number += 1
                given_cells = [given(cell, kind) for cell, kind in zip(cells, kinds, strict=True)]
                yield Row(dict(zip(batch.schema.names, given_cells, strict=True)), f"{path}: row {number}")


def check_names(names: Sequence[str], path: Path) -> None:
    """Refuse two columns of one name.

    Raises:
        DataError: With the name.
    """
    twice, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise DataError(f"{path}: two columns are called {twice!r} (rename one)")


def bytes_by_dictionary(column: "pyarrow.Array") -> int:
    """What the texts of a column take that stand in it as numbers of a dictionary."""
    import pyarrow
    import pyarrow.compute

    if not pyarrow.types.is_dictionary(column.type):
        return 0
    try:
        lengths = pyarrow.compute.binary_length(column.dictionary)
    except pyarrow.ArrowNotImplementedError:  # numbers, which are short
        return 0
    return pyarrow.compute.sum(lengths.take(column.indices)).as_py() or 0


def decoded(column: "pyarrow.Array") -> "pyarrow.Array":
    """A column whose values stand in it, and not in a dictionary or once for a run of equal ones."""
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_dictionary(column.type):
        return column.dictionary_decode()
    if pyarrow.types.is_run_end_encoded(column.type):
        return pyarrow.compute.run_end_decode(column)
    return column


def unfolded_bytes(column: "pyarrow.Array") -> int:
    """What a column takes once it is Python objects, at least.

    Raises:
        ArrowNotImplementedError: Lists that may share their elements, which unfold without bound.
    """
    import pyarrow

    if pyarrow.types.is_list_view(column.type) or pyarrow.types.is_large_list_view(column.type):
        raise pyarrow.ArrowNotImplementedError(f"a column of type {column.type}")
    num_bytes = column.nbytes + len(column) * VALUE_BYTES
    if pyarrow.types.is_struct(column.type) or pyarrow.types.is_list(column.type):
        inner = column.flatten()
        parts = inner if isinstance(inner, list) else [inner]
        num_bytes += sum(unfolded_bytes(decoded(part)) for part in parts)
    return int(num_bytes)


def given(value: Any, kind: "pyarrow.DataType") -> Any:
    """A value of a column without the fields of structs that are null, as the row has never had them.

    All rows of a column share a type, so that a field of one row is there, as null, in all others. What a row
    gave as null inside a struct can't be told from it. A column's own null stays, and so does that of a list
    or of a map.
    """
    import pyarrow

    if value is None:
        return None
    if pyarrow.types.is_struct(kind):
        return {
            field.name: given(value[field.name], field.type)
            for field in kind
            if value[field.name] is not None
        }
    if pyarrow.types.is_map(kind):
        return {key: given(inner, kind.item_type) for key, inner in value}
    if pyarrow.types.is_nested(kind):
        return [given(inner, kind.value_type) for inner in value]
    return value
