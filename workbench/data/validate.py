"""Checks the rows one by one before the model is loaded, without a tokenizer."""

from collections.abc import Sequence

from workbench.config.data import DataConfig, DataFormat, Template
from workbench.config.model import Task
from workbench.config.names import key_of
from workbench.data.classification import TEXT_COLUMNS, label_names, label_number, labelled_text, target
from workbench.data.conversations import conversation
from workbench.data.formats import check_one_format, row_format, text
from workbench.data.readers.row_store import by_source
from workbench.data.rows import Row, sourced
from workbench.errors import ConfigError, DataError

READ = {
    DataFormat["alpaca"]: ("instruction", "input", "output", "history", "system", "tools"),
    DataFormat["sharegpt"]: ("conversations", "system", "tools"),
    DataFormat["messages"]: ("messages", "system", "tools"),
    DataFormat["prompt-completion"]: ("prompt", "completion", "system", "tools"),
    DataFormat["text"]: ("text",),
    DataFormat["labelled"]: (*dict.fromkeys(name for names in TEXT_COLUMNS for name in names), "label"),
}
"""Data format -> columns that training reads, which are the keys that `data.columns` may have."""


def check_keys(data: DataConfig, task: Task) -> None:
    """Refuse keys of the section `data` that have no effect for the task.

    Raises:
        ConfigError: Such a key is set; the message names it.
    """
    if task is Task.causal_lm:
        for key in ("regression", "labels", "labels_file", "drop_unlabelled"):
            if getattr(data, key):
                raise ConfigError(f"data.{key}: only for classifiers (model.task=sequence_classification)")
        return
    if data.packing:
        raise ConfigError(
            "data.packing: only for causal models; a classifier reads one text per row (set it false)"
        )
    if data.split_special_tokens:
        raise ConfigError("data.split_special_tokens: only for causal models (set it false)")
    for name, source, _ in sourced(data):
        if source.template != Template["auto"].name:
            key = key_of("template", name)
            raise ConfigError(
                f"{key}: {source.template!r} is for chats; a classifier reads texts without a template "
                "(set it auto)"
            )


def check_rows(rows: Sequence[Row], data: DataConfig, task: Task) -> None:
    """Check the keys for the task, and read each row as training does, without a tokenizer.

    Raises:
        ConfigError: As for `check_keys` and `check_roles`.
        DataError: A row can't be read; the message has the first error, and how many rows have it.
    """
    check_keys(data, task)
    names = label_names(rows, data) if task is Task.sequence_classification else []
    check_one_format(rows, data, task)
    problems: list[tuple[Row, DataError]] = []
    for source, found in by_source(rows):
        shape = row_format(found[0], data.of_source(source), task)
        check_roles(data.of_source(source), source, shape)
        for row in found:
            try:
                check_row(row, shape, data, names)
            except DataError as error:
                problems.append((row, error))
    if problems:
        raise DataError(summary(problems)) from problems[0][1]


def check_roles(data: DataConfig, source: str, shape: DataFormat) -> None:
    """Refuse a key of `data.columns` (a role, such as `prompt`) that rows of this data format don't have.

    Args:
        data: The section `data` of one source.
        source: Name of the source, for the message; empty: `data` itself.
        shape: Data format of the rows.

    Raises:
        ConfigError: The message names the key.
    """
    for role in data.columns:
        if role not in READ[shape]:
            raise ConfigError(
                f"{key_of('columns', source)}.{role}: {shape.name!r} rows have no {role!r} "
                f"({', '.join(READ[shape])}; data.format names another format)"
            )


def check_row(row: Row, shape: DataFormat, data: DataConfig, names: Sequence[str]) -> None:
    """Check one row by reading it as training does.

    Raises:
        DataError: The row can't be read.
    """
    if shape is DataFormat["labelled"]:
        check_label(row, data, names)
    elif shape is DataFormat["text"]:
        text(row, "text")
    else:
        conversation(row, shape)


def summary(problems: Sequence[tuple[Row, DataError]]) -> str:
    """Return the first error, with the number of rows that have it and the first three of these rows.

    Args:
        problems: Rows that can't be read, each with its error; at least one.
    """
    first, first_error = problems[0]
    message = str(first_error).removeprefix(first.where)
    same = [row.where for row, error in problems if str(error).removeprefix(row.where) == message]
    if len(same) == 1:
        return str(first_error)
    ellipsis = ", ..." if len(same) > 3 else ""
    return f"{first_error}; {len(same):,} rows have this error: {', '.join(same[:3])}{ellipsis}"


def check_label(row: Row, data: DataConfig, names: Sequence[str]) -> None:
    """Check that a row has a text, and one of the classes `names` or, with `data.regression`, a number.

    Raises:
        DataError: The text, the class or the number is missing or wrong.
    """
    example = labelled_text(row, answered=not data.regression)
    if data.regression:
        target(row)
    else:
        label_number(example.label, names, row.where)
