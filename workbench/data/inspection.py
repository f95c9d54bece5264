"""Rows looked at one by one before the long work starts, without a tokenizer."""

from collections.abc import Sequence
from itertools import groupby

from workbench.config.data import DataConfig, DataFormat
from workbench.config.model import Task
from workbench.data.formats import row_format, text
from workbench.data.instruction import conversation
from workbench.data.labelled import label_names, label_number, labelled_text, target
from workbench.data.rows import Row


def check_rows(rows: Sequence[Row], data: DataConfig, task: Task) -> None:
    """Read each row as training will.

    Raises:
        DataError: The first row that can't be read, with its file and line.
    """
    names = label_names(rows, data) if task is Task.sequence_classification else []
    for source, part in groupby(rows, key=lambda row: row.source):
        found = list(part)
        shape = row_format(found[0], data.of_source(source), task)
        for row in found:
            if shape is DataFormat["labelled"]:
                check_label(row, data, names)
            elif shape is DataFormat["text"]:
                text(row, "text")
            else:
                conversation(row, shape)


def check_label(row: Row, data: DataConfig, names: Sequence[str]) -> None:
    """Read the row's text, and its class or number."""
    example = labelled_text(row, answered=not data.regression)
    if data.regression:
        target(row)
    else:
        label_number(example.label, names, row.where)
