"""Reads rows of Hugging Face Hub datasets, or of their local cache, for training and benchmarks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.data.readers.read_rows import READERS
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
    """Yield the rows of one split of a Hub dataset, without null fields; `Row.where` numbers them from 1.

    Args:
        name: The dataset's Hub id.
        subset: The dataset's configuration name; None: its only one, or its default.
        split: Name of the split.
        streaming: True fetches rows from the network one by one; False downloads the dataset first, or reads
            it from the cache of the datasets library.
        key: Configuration key, for messages.
        hint: Advice for the user, appended to an error message.

    Raises:
        DataError: The dataset can't be loaded, or a stream breaks off.
    """
    import datasets  # costs seconds, and local files don't need it

    failures = (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError)
    try:
        options = {"streaming": True} if streaming else {}
        dataset = datasets.load_dataset(name, subset, split=split, **options)
    except failures as error:
        reason = f"{name!r} is not a file here, and the hub gave none, {first_line(error)}"
        raise DataError(f"{key}: {reason}{hint}") from error
    title = " ".join(word for word in (name, subset, split) if word)
    values, number = iter(dataset), 0
    while True:
        try:
            row = next(values, None)
        except failures as error:  # of a stream, whose rows come over the network one by one
            raise DataError(
                f"{title}: the hub gave no row after row {number}, {first_line(error)}"
            ) from error
        if row is None:
            return
        number += 1
        columns = {column: without_null_fields(value) for column, value in dict(row).items()}
        yield Row(columns, f"{title}: row {number}", file=name)


def is_hub_id(path: str) -> bool:
    """Return whether a path that doesn't exist here can be a hub id, `owner/name`.

    A path with the suffix of a data file, or below an existing folder, can't.
    """
    has_shape = re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None
    return has_shape and Path(path).suffix.lower() not in READERS and not Path(path).parent.is_dir()


def without_null_fields(value: Any) -> Any:
    """Return a copy of a JSON value without the null fields of its objects, at any depth.

    A dataset adds a null field to all rows that lack the field.
    """
    if isinstance(value, dict):
        return {key: without_null_fields(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_null_fields(inner) for inner in value]
    return value
