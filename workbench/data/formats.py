"""Which shape a file's rows have, told by their columns."""

from workbench.config.data import DataConfig, DataFormat, key_of
from workbench.config.model import Task
from workbench.data.rows import Row
from workbench.errors import DataError

QUESTION = {
    DataFormat["sharegpt"]: ["conversations"],
    DataFormat["messages"]: ["messages"],
    DataFormat["alpaca"]: ["instruction"],
    DataFormat["prompt-completion"]: ["prompt"],
    DataFormat["text"]: ["text"],
}
"""Columns without which a format is none; a causal row is tried against them from top to bottom."""

ANSWER = {DataFormat["alpaca"]: ["output"], DataFormat["prompt-completion"]: ["completion"]}
"""Columns that training needs too, and that a row to be answered lacks."""


def row_format(row: Row, data: DataConfig, task: Task, *, answered: bool = True) -> DataFormat:
    """The format of a row: `data.format`, or what its columns say; `answered=False` for rows to be predicted.

    Raises:
        DataError: A format that the task can't train on, or columns that fit none.
    """
    key = key_of("format", row.source)
    if task is Task.sequence_classification:
        if data.format not in (DataFormat["auto"], DataFormat["labelled"]):
            raise DataError(
                f"{key}: {data.format.name!r} rows have no classes (model.task=sequence_classification "
                "needs labelled)"
            )
        return DataFormat["labelled"]
    if data.format is DataFormat["labelled"]:
        raise DataError(f"{key}: 'labelled' rows train a classifier (model.task=sequence_classification)")
    if data.format is not DataFormat["auto"]:
        return data.format
    for name, question in QUESTION.items():
        needed = question + (ANSWER.get(name, []) if answered else [])
        if all(column in row.values for column in needed):
            return name
    key = key_of("columns", row.source)
    raise DataError(
        f"{row.where}: the columns {', '.join(row.values)} fit no format (name them, as in "
        f"{key}.prompt=NAME {key}.completion=NAME)"
    )


def value(row: Row, column: str) -> object:
    """A column that the row must have.

    Raises:
        DataError: It hasn't.
    """
    if column not in row.values or row.values[column] is None:
        raise DataError(f"{row.where}: no column {column!r} (has: {', '.join(row.values)})")
    return row.values[column]


def text(row: Row, column: str) -> str:
    """A column that must be text."""
    found = value(row, column)
    if not isinstance(found, str):
        raise DataError(f"{row.where}: column {column!r} must be text, not {repr(found)[:40]}")
    return found


def optional_text(row: Row, column: str) -> str:
    """A column that may be missing or null, and is text otherwise."""
    return text(row, column) if row.values.get(column) is not None else ""
