"""Rows looked at one by one before the long work starts, without a tokenizer."""

from collections.abc import Sequence
from itertools import groupby

from workbench.config.data import DataConfig, DataFormat, Template, key_of
from workbench.config.model import Task
from workbench.data.classification import TEXT_COLUMNS, label_names, label_number, labelled_text, target
from workbench.data.conversations import conversation
from workbench.data.formats import check_one_format, row_format, text
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
"""The roles of columns that rows of a format are read for."""


def check_keys(data: DataConfig, task: Task) -> None:
    """Refuse what is set in the section and would mean nothing for the task.

    Raises:
        ConfigError: With the key.
    """
    if task is Task.causal_lm:
        for key in ("regression", "labels", "labels_file", "drop_unlabelled"):
            if getattr(data, key):
                raise ConfigError(f"data.{key}: for a classifier only (model.task=sequence_classification)")
        return
    if data.packing:
        raise ConfigError(
            "data.packing: for a causal model only, a classifier's texts stay apart (set it false)"
        )
    if data.split_special_tokens:
        raise ConfigError("data.split_special_tokens: for a causal model only (set it false)")
    for name, source, _ in sourced(data):
        if source.template != Template["auto"].name:
            key = key_of("template", name)
            raise ConfigError(
                f"{key}: {source.template!r} is for chats, a classifier reads texts as they are (set it auto)"
            )


def check_rows(rows: Sequence[Row], data: DataConfig, task: Task) -> None:
    """Read each row as training will, by keys that the task can serve.

    Raises:
        ConfigError: As `check_keys` says.
        DataError: The first row that can't be read, with its file and line.
    """
    check_keys(data, task)
    names = label_names(rows, data) if task is Task.sequence_classification else []
    check_one_format(rows, data, task)
    problems: list[tuple[Row, DataError]] = []
    for source, part in groupby(rows, key=lambda row: row.source):
        found = list(part)
        shape = row_format(found[0], data.of_source(source), task)
        check_roles(data.of_source(source), source, shape)
        for row in found:
            try:
                check_row(row, shape, data, names)
            except DataError as error:
                problems.append((row, error))
    if problems:
        raise DataError(with_others(problems)) from problems[0][1]


def check_roles(data: DataConfig, source: str, shape: DataFormat) -> None:
    """Refuse a column that is mapped to a role which rows of this format don't have.

    Raises:
        ConfigError: With the key.
    """
    for role in data.columns:
        if role not in READ[shape]:
            raise ConfigError(
                f"{key_of('columns', source)}.{role}: {shape.name!r} rows have no {role!r} "
                f"({', '.join(READ[shape])}; data.format names another format)"
            )


def check_row(row: Row, shape: DataFormat, data: DataConfig, names: Sequence[str]) -> None:
    """Read one row as training will.

    Raises:
        DataError: It can't be read.
    """
    if shape is DataFormat["labelled"]:
        check_label(row, data, names)
    elif shape is DataFormat["text"]:
        text(row, "text")
    else:
        conversation(row, shape)


def with_others(problems: Sequence[tuple[Row, DataError]]) -> str:
    """The first row's complaint, with how many rows it is true of and the first three of them."""
    first, error = problems[0]
    complaint = str(error).removeprefix(first.where)
    alike = [row.where for row, other in problems if str(other).removeprefix(row.where) == complaint]
    if len(alike) == 1:
        return str(error)
    return f"{error}; {len(alike):,} rows are so: {', '.join(alike[:3])}{', ...' if len(alike) > 3 else ''}"


def check_label(row: Row, data: DataConfig, names: Sequence[str]) -> None:
    """Read the row's text, and its class or number."""
    example = labelled_text(row, answered=not data.regression)
    if data.regression:
        target(row)
    else:
        label_number(example.label, names, row.where)
