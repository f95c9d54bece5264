"""Reads rows of Parquet and Arrow files, without null fields that structs have only because of other rows."""

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
"""Rows converted to Python objects at a time."""


def parquet_rows(path: Path, layout: Layout) -> Iterator[Row]:
    """Yield the rows of a Parquet file, with few rows in memory at a time; no key of `layout` applies.

    Raises:
        DataError: The file is damaged, its uncompressed size is too large, or two columns have the same name.
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
    """Yield the rows of an Arrow file (file format, stream format or Feather); no key of `layout` applies.

    Raises:
        DataError: The file is damaged, its uncompressed size is too large, or two columns have the same name.
    """
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as file:
            check_arrow_sizes(path, file)
            yield from batched_rows(pyarrow.ipc.open_stream(file), path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise DataError(f"{path}: not a readable Arrow file, {first_line(error)}") from error


def batched_rows(batches: "Iterator[pyarrow.RecordBatch]", path: Path) -> Iterator[Row]:
    """Yield the rows of all record batches as Python objects; `Row.where` numbers them from 1.

    `path` is the file of the batches: its size bounds the uncompressed size, and messages name it.

    Raises:
        DataError: The uncompressed size is too large, or two columns have the same name.
    """
    number = num_bytes = 0
    most = most_unfolded(path)
    for batch in batches:
        check_names(batch.schema.names, path)
        batch.validate(full=True)  # damaged offsets would be read outside of the buffer
        announced = batch.num_rows * VALUE_BYTES + sum(map(bytes_by_dictionary, batch.columns))
        announced += sum(map(bytes_by_view, batch.columns))
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
    """Check that no two columns have the same name.

    Raises:
        DataError: The message names the duplicate.
    """
    duplicate, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise DataError(f"{path}: two columns are called {duplicate!r} (rename one)")


def bytes_by_dictionary(column: "pyarrow.Array") -> int:
    """Return the bytes that a dictionary-encoded text column has after decoding; 0 for other columns."""
    import pyarrow
    import pyarrow.compute

    if not pyarrow.types.is_dictionary(column.type):
        return 0
    try:
        lengths = pyarrow.compute.binary_length(column.dictionary)
    except pyarrow.ArrowNotImplementedError:  # not texts
        return 0
    return pyarrow.compute.sum(lengths.take(column.indices)).as_py() or 0


def bytes_by_view(column: "pyarrow.Array") -> int:
    """Return the bytes of all texts in a column of views; 0 for other columns.

    Views may share storage, so the column itself can be much smaller. Source: Arrow's format/Columnar.rst: a
    view is 16 bytes, the first 4 its length.
    """
    import numpy
    import pyarrow

    if not (pyarrow.types.is_string_view(column.type) or pyarrow.types.is_binary_view(column.type)):
        return 0
    views = numpy.frombuffer(column.buffers()[1], dtype="<i4", count=4 * (column.offset + len(column)))
    return int(views[4 * column.offset :: 4].astype("i8").sum())


def decoded(column: "pyarrow.Array") -> "pyarrow.Array":
    """Return a column without dictionary or run-end encoding."""
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_dictionary(column.type):
        return column.dictionary_decode()
    if pyarrow.types.is_run_end_encoded(column.type):
        return pyarrow.compute.run_end_decode(column)
    return column


def unfolded_bytes(column: "pyarrow.Array") -> int:
    """Return a lower bound of the bytes that a column takes as Python objects.

    Raises:
        ArrowNotImplementedError: List views, whose lists may share elements without bound.
    """
    import pyarrow

    if pyarrow.types.is_list_view(column.type) or pyarrow.types.is_large_list_view(column.type):
        raise pyarrow.ArrowNotImplementedError(f"a column of type {column.type}")
    num_bytes = column.nbytes + len(column) * VALUE_BYTES
    if pyarrow.types.is_struct(column.type) or pyarrow.types.is_list(column.type):
        inner = column.flatten()
        children = inner if isinstance(inner, list) else [inner]
        num_bytes += sum(unfolded_bytes(decoded(child)) for child in children)
    return int(num_bytes)


def given(value: Any, kind: "pyarrow.DataType") -> Any:
    """Return a copy of a cell, a Python value of the type `kind`, without the null fields of its structs.

    All rows of a column share a type, so a field that one row has is null in every row without the field. A
    null that the row itself gave in a struct can't be distinguished from those and is removed, too. Nulls of
    the column, of lists and of maps remain. Maps become dicts.
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
