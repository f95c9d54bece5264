"""Rows of data sets of the Hugging Face Hub, or of its cache, for training and for benchmarks."""

from collections.abc import Iterator
from typing import Any

from workbench.data.readers.row import Row
from workbench.errors import DataError, first_line


def hub_rows(
    name: str,
    subset: str | None,
    split: str,
    *,
    streaming: bool = False,
    key: str = "data.path",
    hint: str = "",
) -> Iterator[Row]:
    """The rows of one split, counted from 1.

    Args:
        name: The data set's id.
        subset: Its configuration, where it has several.
        split: The split.
        streaming: Whether to read them from the network as they are wanted.
        key: Of the configuration, for messages.
        hint: The way out, for messages.

    Raises:
        DataError: The hub gave none.
    """
    import datasets  # costs seconds, and local files don't need it

    failures = (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError)
    try:
        how = {"streaming": True} if streaming else {}
        dataset = datasets.load_dataset(name, subset, split=split, **how)
    except failures as error:
        reason = f"{name!r} is not a file here, and the hub gave none, {first_line(error)}"
        raise DataError(f"{key}: {reason}{hint}") from error
    of = " ".join(part for part in (name, subset, split) if part)
    values, number = iter(dataset), 0
    while True:
        try:
            row = next(values, None)
        except failures as error:  # of a stream, whose rows come over the network one by one
            raise DataError(f"{of}: the hub gave no row after row {number}, {first_line(error)}") from error
        if row is None:
            return
        number += 1
        columns = {column: without_null_fields(value) for column, value in dict(row).items()}
        yield Row(columns, f"{of}: row {number}", file=name)


def without_null_fields(value: Any) -> Any:
    """A value without the null fields of the objects in it, which a data set gives to rows that lack them."""
    if isinstance(value, dict):
        return {key: without_null_fields(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_null_fields(inner) for inner in value]
    return value
