"""Reads the rows of `predict.input` like training rows, and adapts their columns to the model."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.config import Config, Step
from workbench.config.data import DataConfig, DataFormat
from workbench.config.model import Task
from workbench.data.classification import TEXT_COLUMNS
from workbench.data.formats import QUESTION
from workbench.data.rows import ANSWERS, Row, load_rows, renamed
from workbench.errors import ConfigError, DataError
from workbench.pipeline.held_out.rows_file import train_report
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir

log = logging.getLogger("workbench")

KEYS = {"data.path": "predict.input", "data.columns": "predict.columns", "data.limit": "predict.limit"}
"""Keys about training rows -> the same keys about rows to predict."""

LINES = (".txt", ".md")
"""Extensions of text files, each line of which is a row."""


@dataclass(frozen=True)
class Question:
    """A row of `predict.input`, once as in the file and once as the model needs it."""

    given: dict[str, Any]
    """The row's columns as in the file, for the output."""
    row: Row
    """The row with the columns that the model needs."""


def questions(run: Run) -> list[Question]:
    """Read the rows of `predict.input`, at most `predict.limit`, in order.

    Raises:
        ConfigError: The key is not set, or another key doesn't apply to the file.
        DataError: The file is missing, malformed or empty, or lacks a column.
    """
    config = run.config
    if not config.predict.input:
        raise ConfigError(
            "predict.input: not given (a file of texts or prompts: .txt with one per line, .csv, .jsonl, ...)"
        )
    data = replace(input_data(config), columns={}, limit=config.predict.limit)
    try:
        rows = load_rows(data, answered=False)
        model_rows = [renamed(row, columns_for(rows[0], config), answered=False) for row in rows]
        if config.model.task is Task.sequence_classification:
            model_rows = [with_text(row) for row in model_rows]
        else:
            model_rows = as_prompts(model_rows, run)
    except (ConfigError, DataError) as error:
        raise type(error)(with_predict_keys(str(error))) from error
    return [
        Question({"prompt": row.values["text"]} if is_prompt_line(row, config) else row.values, model_row)
        for row, model_row in zip(rows, model_rows, strict=True)
    ]


def with_predict_keys(message: str) -> str:
    """Return an error message with keys such as data.path replaced by those of the predict step."""
    for key, predict_key in KEYS.items():
        message = message.replace(key, predict_key)
    return message


def input_data(config: Config) -> DataConfig:
    """Return a copy of the data section with `predict.input` as path, without sources, limit and unfold."""
    return replace(config.data, path=config.predict.input or "", sources={}, limit=None, unfold="")


def is_prompt_line(row: Row, config: Config) -> bool:
    """Return whether a row is a line of a text file, and the model is a causal model."""
    return is_line(row) and config.model.task is Task.causal_lm


def is_line(row: Row) -> bool:
    """Return whether a row is a line of a text file."""
    return Path(row.file).suffix.lower() in LINES


def columns_for(first: Row, config: Config) -> dict[str, str]:
    """Return role -> column of the file: `predict.columns`, or training's columns that the file has.

    For a line of a text file only `predict.columns` counts.

    Args:
        first: The file's first row, with the names of its columns.
        config: The configuration.

    Raises:
        DataError: A column that training used is missing, and no column is named after its role.
    """
    if config.predict.columns or is_line(first):
        return dict(config.predict.columns)
    columns: dict[str, str] = {}
    for role, column in trained_columns(config.data, first).items():
        if column in first.values:
            columns[role] = column
        elif role not in ANSWERS and role not in first.values and len(first.values) > 1:
            raise DataError(
                f"{first.where_named}: no column {column!r}, which the training used "
                f"(has: {', '.join(first.values)}; name yours with data.columns.{role}=NAME)"
            )
    return columns


def trained_columns(data: DataConfig, first: Row) -> Mapping[str, str]:
    """Return role -> column of the training rows, such as `text` -> `review`.

    Of several sources, the one that has most columns in common with the row `first` counts. Empty if training
    renamed no column.
    """
    source_columns = [source.columns for source in data.sources.values() if source.columns]
    return data.columns or max(
        source_columns,
        key=lambda columns: sum(column in first.values for column in columns.values()),
        default={},
    )


def with_text(row: Row) -> Row:
    """Return the row itself if it has a text column; else a copy with a column `text`.

    The new column has the value of the column `prompt`, or of the only column besides answers.

    Raises:
        DataError: There are several columns, and none is known to be the text.
    """
    if any(all(name in row.values for name in names) for names in TEXT_COLUMNS):
        return row
    names = [name for name in row.values if name not in ANSWERS]
    name = "prompt" if "prompt" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise DataError(
            f"{row.where_named}: no column of text (has: {row.column_names}; name it with "
            "data.columns.text=NAME)"
        )
    return replace(row, values={**row.values, "text": row.values[name]})


def as_prompts(rows: list[Row], run: Run) -> list[Row]:
    """Return the rows (at least one) for a causal model; if it was trained on chats, prompts become turns.

    If the run has no training, lines of a text file become turns if the tokenizer has a chat template.

    Raises:
        DataError: A row has no column of text, or train.json was changed since the training.
    """
    is_chat = trained_before(run.config, run.run_dir).get("is_chat")
    if is_chat is None:  # the run has no training
        is_chat = is_line(rows[0]) and run.tokenizer.chat_template is not None
    converted = [as_prompt(row, bool(is_chat)) for row in rows]
    if is_chat and converted != rows and not is_line(rows[0]):
        log.info("predict: the run was trained on chats, so each prompt becomes a turn of the user")
    return converted


def trained_before(config: Config, run_dir: RunDir) -> dict[str, Any]:
    """Read train.json as a dict; {} if nothing was trained, or if this command's train step makes it again.

    Raises:
        DataError: It was changed since the training, and this command doesn't train.
    """
    try:
        return train_report(run_dir)
    except DataError:
        if Step.train not in config.steps:
            raise
        return {}


def as_prompt(row: Row, is_chat: bool) -> Row:
    """Return a copy of a row with its line or prompt as a user's turn (`is_chat`) or a plain prompt.

    Rows of other formats are returned themselves.
    """
    text = row.values.get("text") if is_line(row) else row.values.get("prompt")
    formats = [names for names in QUESTION.values() if names != ["prompt"] and names != ["text"]]
    if not isinstance(text, str) or any(all(name in row.values for name in names) for names in formats):
        return row
    values = {"messages": [{"role": "user", "content": text}]} if is_chat else {"prompt": text}
    return replace(row, values=values)


def format_for(rows: list[Row], data: DataConfig) -> DataFormat:
    """Return `data.format` if it is `labelled` or all rows have its columns, else `auto`."""
    needed = QUESTION.get(data.format, [])
    has_columns = all(name in row.values for row in rows for name in needed)
    return data.format if has_columns or data.format is DataFormat["labelled"] else DataFormat["auto"]
