"""Which shape a file's rows have, told by their columns."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

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
"""The columns that training reads, by format."""

ROW_NUMBERS = {"", "id", "idx", "index"}
"""Columns that number the rows; that nobody reads these goes without saying."""


def unread_columns(rows: Iterable[Row], shape: DataFormat) -> Iterator[str]:
    """For each row and each of its columns that says something and isn't read: what is to be counted."""
    passed_over = READ[shape] | ROW_NUMBERS
    for row in rows:
        for column, content in row.values.items():
            if column not in passed_over and content not in (None, "", [], {}):
                yield f"have a column {column!r} that is not read"


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
        f"{row.where}: the columns {row.column_names} fit no format (name them, as in "
        f"{key}.prompt=NAME {key}.completion=NAME)"
    )


def check_one_format(rows: Sequence[Row], data: DataConfig, task: Task, *, answered: bool = True) -> None:
    """Refuse a file whose rows are of another format than those of the other files of its source.

    Raises:
        DataError: With the file that stands alone, a text file before others.
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
            f"(take it out of the folder, or make both {key_of('sources', '')}.NAME of their own)"
        )


def shown_format(row: Row, data: DataConfig, task: Task, answered: bool) -> str:
    """The name of a row's format, or that it has none."""
    try:
        return row_format(row, data, task, answered=answered).name
    except DataError:
        return f"of no known format ({row.column_names})"


def value(row: Row, column: str) -> object:
    """A column that the row must have.

    Raises:
        DataError: It hasn't, or the column is null.
    """
    if column not in row.values:
        raise DataError(f"{row.where}: no column {column!r} (has: {row.column_names})")
    if row.values[column] is None:
        raise DataError(
            f"{row.where}: column {row.own_name(column)!r} is null (give it a value, or leave the row out)"
        )
    return row.values[column]


def text(row: Row, column: str) -> str:
    """A column that must be text."""
    found = value(row, column)
    if not isinstance(found, str):
        raise DataError(f"{row.where}: column {row.own_name(column)!r} must be text, not {repr(found)[:40]}")
    return found


def optional_text(row: Row, column: str) -> str:
    """A column that may be missing or null, and is text otherwise."""
    return text(row, column) if row.values.get(column) is not None else ""
