"""The rows of `predict.input`, read as the run's training rows were, whatever their columns are called."""

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
"""Keys of training rows -> those that mean the same of rows to be answered."""

LINES = (".txt", ".md")
"""Files whose lines are rows without column names."""


@dataclass(frozen=True)
class Question:
    """A row to be answered."""

    given: dict[str, Any]
    """Its columns as the file has them, for the output."""
    row: Row
    """As the model is asked it."""


def questions(run: Run) -> list[Question]:
    """The rows of `predict.input`, read before any model is.

    Raises:
        ConfigError: no input, or columns that aren't there.
        DataError: the file is missing or malformed.
    """
    config = run.config
    if not config.predict.input:
        raise ConfigError(
            "predict.input: not given (a file of texts or prompts: .txt with one a line, .csv, .jsonl, ...)"
        )
    data = replace(input_data(config), columns={}, limit=config.predict.limit)
    try:
        rows = load_rows(data, answered=False)
        asked = [renamed(row, columns_for(rows[0], config), answered=False) for row in rows]
        if config.model.task is Task.sequence_classification:
            asked = [classified(row) for row in asked]
        else:
            asked = as_prompts(asked, run)
    except (ConfigError, DataError) as error:
        raise type(error)(in_terms_of_predict(str(error))) from error
    return [
        Question({"prompt": row.values["text"]} if is_prompt_line(row, config) else row.values, question)
        for row, question in zip(rows, asked, strict=True)
    ]


def in_terms_of_predict(message: str) -> str:
    """An error about training rows with the keys of rows to be answered."""
    for key, ours in KEYS.items():
        message = message.replace(key, ours)
    return message


def input_data(config: Config) -> DataConfig:
    """The data section for the rows of `predict.input` alone."""
    return replace(config.data, path=config.predict.input or "", sources={}, limit=None, unfold="")


def is_prompt_line(row: Row, config: Config) -> bool:
    """Whether a row is a line of a text file, to be answered by a causal model."""
    return is_line(row) and config.model.task is Task.causal_lm


def is_line(row: Row) -> bool:
    """Whether a row is a line of a text file."""
    return Path(row.file).suffix.lower() in LINES


def columns_for(first: Row, config: Config) -> dict[str, str]:
    """Role -> column of the file: `predict.columns`, else those of training as far as the file has them.

    Raises:
        DataError: a column that training read is missing, and no column has its role's name.
    """
    if config.predict.columns or is_line(first):
        return dict(config.predict.columns)
    found: dict[str, str] = {}
    for role, column in trained_columns(config.data, first).items():
        if column in first.values:
            found[role] = column
        elif role not in ANSWERS and role not in first.values and len(first.values) > 1:
            raise DataError(
                f"{first.where}: no column {column!r}, from which the run was trained "
                f"(has: {', '.join(first.values)}; name yours with data.columns.{role}=NAME)"
            )
    return found


def trained_columns(data: DataConfig, first: Row) -> Mapping[str, str]:
    """The columns that training named; of several sources, those that the row has most of."""
    named = [source.columns for source in data.sources.values() if source.columns]
    return data.columns or max(
        named, key=lambda columns: sum(column in first.values for column in columns.values()), default={}
    )


def classified(row: Row) -> Row:
    """The row with its text where a classifier looks for it: a prompt or the only column is one, too.

    Raises:
        DataError: there are several columns, and none is known to be the text.
    """
    if any(all(name in row.values for name in names) for names in TEXT_COLUMNS):
        return row
    names = [name for name in row.values if name not in ANSWERS]
    name = "prompt" if "prompt" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise DataError(
            f"{row.where}: no column of text (has: {row.column_names}; name it with data.columns.text=NAME)"
        )
    return replace(row, values={**row.values, "text": row.values[name]})


def as_prompts(rows: list[Row], run: Run) -> list[Row]:
    """The rows of a causal model: lines, and prompts in a run trained on chats, become turns of a user."""
    is_chat = trained_before(run.config, run.run_dir).get("is_chat")
    if is_chat is None:  # not trained here
        is_chat = is_line(rows[0]) and run.tokenizer.chat_template is not None
    turned = [turn(row, bool(is_chat)) for row in rows]
    if is_chat and turned != rows and not is_line(rows[0]):
        log.info("predict: the run was trained on chats, so each prompt is given as a turn of the user")
    return turned


def trained_before(config: Config, run_dir: RunDir) -> dict[str, Any]:
    """What train.json says; nothing where it is damaged and this command's train step makes it again.

    Raises:
        DataError: it isn't as the training left it.
    """
    try:
        return train_report(run_dir)
    except DataError:
        if Step.train not in config.steps:
            raise
        return {}


def turn(row: Row, is_chat: bool) -> Row:
    """A line or a prompt as what a user says; other rows as they are."""
    words = row.values.get("text") if is_line(row) else row.values.get("prompt")
    known = [names for names in QUESTION.values() if names != ["prompt"] and names != ["text"]]
    if not isinstance(words, str) or any(all(name in row.values for name in names) for names in known):
        return row
    said = {"messages": [{"role": "user", "content": words}]} if is_chat else {"prompt": words}
    return replace(row, values=said)


def format_for(rows: list[Row], data: DataConfig) -> DataFormat:
    """`data.format`, where the rows have its columns; else it is told by their columns."""
    needed = QUESTION.get(data.format, [])
    fits = all(name in row.values for row in rows for name in needed)
    return data.format if fits or data.format is DataFormat["labelled"] else DataFormat["auto"]
