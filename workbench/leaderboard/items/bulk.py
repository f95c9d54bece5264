"""Reads fields of a JSON lines file in bulk with pyarrow, if every line has the types of the first line."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.json as pa_json

SMALLEST_BLOCK = 1 << 16
LARGEST_BLOCK = 1 << 30
"""Largest number of bytes that pyarrow parses in one block; every line must fit into a block."""

MAY_BE_NULL = ("cluster", "prediction", "generation")


def first_line(data: bytes) -> dict[str, Any] | None:
    """Parse the first line of a JSON lines file; None if it isn't a JSON object that a newline ends."""
    try:
        values = json.loads(data[: data.find(b"\n") + 1])
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def read_bulk(data: bytes, fields: dict[str, pa.DataType]) -> dict[str, pa.Array] | None:
    """Return fields of JSON lines as columns: name of a field -> array with one entry per line.

    None if a line is malformed, or lacks a field or has it in another type. A null counts as another type
    except in the fields of MAY_BE_NULL.

    Args:
        data: Bytes of the file.
        fields: Name of a field -> its type.
    """
    size = min(max(len(data), SMALLEST_BLOCK), LARGEST_BLOCK)
    try:
        table = pa_json.read_json(
            pa.BufferReader(data),
            read_options=pa_json.ReadOptions(use_threads=False, block_size=size),
            parse_options=pa_json.ParseOptions(
                explicit_schema=pa.schema(list(fields.items())), unexpected_field_behavior="ignore"
            ),
        )
    except (pa.ArrowException, ValueError, TypeError):
        return None
    names = [name for name in table.column_names if name not in MAY_BE_NULL]
    if any(table[name].null_count for name in names) or table.num_rows != data.count(b"\n"):
        return None
    return {name: table[name].combine_chunks() for name in table.column_names}


def type_of(value: Any) -> pa.DataType:
    """Return the pyarrow type of a column that has this first value; a null counts as a text.

    Raises:
        TypeError: Values of this type aren't read in bulk.
    """
    if value is None or isinstance(value, str):
        return pa.string()
    if isinstance(value, int) and not isinstance(value, bool):
        return pa.int64()
    if isinstance(value, list) and value:
        return pa.list_(type_of(value[0]))
    raise TypeError(f"{value!r} is neither a text nor a whole number")
