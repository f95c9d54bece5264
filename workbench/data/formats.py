"""Detects the data format of rows (alpaca, messages, ...) from their columns, and reads values of columns."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from workbench.config.data import DataConfig, DataFormat
from workbench.config.model import Task
from workbench.config.names import key_of
from workbench.data.readers.json_files import json_text
from workbench.data.rows import Row
from workbench.errors import DataError, first_line

QUESTION = {
    DataFormat["sharegpt"]: ["conversations"],
    DataFormat["messages"]: ["messages"],
    DataFormat["alpaca"]: ["instruction"],
    DataFormat["prompt-completion"]: ["prompt"],
    DataFormat["text"]: ["text"],
}
"""Data format -> columns that it requires; formats are tried in this order."""

ANSWER = {DataFormat["alpaca"]: ["output"], DataFormat["prompt-completion"]: ["completion"]}
"""Data format -> columns of the answer, which rows for training require, too."""

READ = {
    DataFormat["sharegpt"]: {"conversations", "system", "tools"},
    DataFormat["messages"]: {"messages", "system", "tools"},
    DataFormat["alpaca"]: {"instruction", "input", "output", "history", "system", "tools"},
    DataFormat["prompt-completion"]: {"prompt", "completion", "system", "tools"},
    DataFormat["text"]: {"text"},
    DataFormat["labelled"]: {
        *("label", "text", "pair", "sentence", "sentence1", "sentence2"),
        *("premise", "hypothesis", "question1", "question2"),
    },
}
"""Data format -> columns that training reads."""

ROW_NUMBERS = {"", "id", "idx", "index"}
"""Columns that number the rows: they are not read, and the user gets no note about this."""

KNOWN = ", ".join("/".join([*columns, *ANSWER.get(shape, [])]) for shape, columns in QUESTION.items())
"""Columns of each data format, as text for an error message."""


def unread_columns(rows: Iterable[Row], shape: DataFormat) -> Iterator[str]:
    """Yield a note for each row and each of its columns that has a value but that training doesn't read.

    Args:
        rows: Rows of one data format.
        shape: Their data format.
    """
    unreported = READ[shape] | ROW_NUMBERS
    for row in rows:
        for column, content in row.values.items():
            if column not in unreported and content not in (None, "", [], {}):
                yield f"have a column {column!r} that is not read"


def row_format(row: Row, data: DataConfig, task: Task, *, answered: bool = True) -> DataFormat:
    """Return the data format of a row: `data.format`, or with `auto` the first whose columns the row has.

    A row for a classifier is always `labelled`. With `answered=False` the row may lack the answer's columns.

    Raises:
        DataError: `data.format` doesn't fit the task, or no format has the columns.
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
        raise DataError(f"{key}: 'labelled' is for classifiers (model.task=sequence_classification)")
    if data.format is not DataFormat["auto"]:
        return data.format
    for name, question in QUESTION.items():
        needed = question + (ANSWER.get(name, []) if answered else [])
        if all(column in row.values for column in needed):
            return name
    key = key_of("columns", row.source)
    raise DataError(
        f"{row.where}: no known format has the columns {row.column_names} (known: {KNOWN}; name yours, as in "
        f"{key}.prompt=NAME {key}.completion=NAME)"
    )


def check_one_format(rows: Sequence[Row], data: DataConfig, task: Task, *, answered: bool = True) -> None:
    """Refuse a source whose files have different data formats; only the first row of each file is examined.

    Raises:
        DataError: The formats differ; the message names a text file, else a file of the rarest format.
    """
    firsts: dict[tuple[str, str], Row] = {}
    for row in rows:
        firsts.setdefault((row.source, row.file), row)
    for source in dict.fromkeys(source for source, _ in firsts):
        own = [row for (name, _), row in firsts.items() if name == source]
        formats = {row.file: shown_format(row, data.of_source(source), task, answered) for row in own}
        counts = Counter(formats.values())
        if len(counts) < 2:
            continue
        odd = min(
            own, key=lambda row: (not row.file.lower().endswith((".txt", ".md")), counts[formats[row.file]])
        )
        other = next(row for row in own if formats[row.file] != formats[odd.file])
        raise DataError(
            f"{odd.file}: its rows are {formats[odd.file]}, those of {other.file} are {formats[other.file]} "
            f"(remove it from the folder, or give each its own {key_of('sources', '')}.NAME)"
        )


def shown_format(row: Row, data: DataConfig, task: Task, answered: bool) -> str:
    """Return the name of a row's data format, or "of no known format (COLUMNS)", for an error message."""
    try:
        return row_format(row, data, task, answered=answered).name
    except DataError:
        return f"of no known format ({row.column_names})"


def value(row: Row, column: str) -> object:
    """Return the value of a column that a row must have.

    Raises:
        DataError: The column is missing, or its value is null.
    """
    if column not in row.values:
        raise DataError(f"{row.where_named}: no column {column!r} (has: {row.column_names})")
    if row.values[column] is None:
        raise DataError(
            f"{row.where}: column {row.own_name(column)!r} is null (give it a value, or leave the row out)"
        )
    return row.values[column]


def text(row: Row, column: str) -> str:
    """Return the text in a column that a row must have; it may be empty.

    Raises:
        DataError: The column is missing or null, or its value is not a string.
    """
    content = value(row, column)
    if not isinstance(content, str):
        raise DataError(
            f"{row.where}: column {row.own_name(column)!r} must be text, not {repr(content)[:40]}"
        )
    return content


def optional_text(row: Row, column: str) -> str:
    """Return the text in a column of a row; "" if the column is missing or null.

    Raises:
        DataError: The value is not a string.
    """
    return text(row, column) if row.values.get(column) is not None else ""


def json_value(row: Row, column: str) -> Any:
    """Return the JSON value in a column, such as tool descriptions; a string is parsed as JSON.

    The result is None for a missing column and for an empty value, such as null, "" or [].

    Raises:
        DataError: The string is malformed or too deeply nested JSON.
    """
    content = row.values.get(column)
    if not isinstance(content, str):
        return content or None
    try:
        return json_text(content) if content.strip() else None
    except ValueError as error:
        reason = first_line(error)
        raise DataError(f"{row.where}: column {column!r} has malformed JSON, {reason}") from error


def short(value: Any) -> str:
    """Return a value as JSON for a message, cut to 60 characters with an ellipsis."""
    written = json.dumps(value, ensure_ascii=False, default=str)
    return written if len(written) <= 60 else written[:57] + "..."
