"""Writes rows as CSV that spreadsheets and data frames read alike."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from workbench.leaderboard.board import Board
from workbench.leaderboard.outputs import rows
from workbench.leaderboard.outputs.texts import csv_text

Entry = TypeVar("Entry")


def scores(board: Board) -> str:
    """Return leaderboard.csv: one line for each model and column."""
    return _csv(rows.SCORE_COLUMNS, rows.scores(board))


def differences(board: Board) -> str:
    """Return differences.csv: one line for each difference that the board tests."""
    return _csv(rows.DIFFERENCE_COLUMNS, rows.differences(board))


def _csv(columns: Mapping[str, Callable[[Entry], Any]], entries: Iterable[Entry]) -> str:
    """Return one line for each entry, below the names of the columns; None is an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    values = list(columns.values())
    writer.writerows([field(value(entry)) for value in values] for entry in entries)
    return buffer.getvalue()


def field(value: Any) -> Any:
    """Return a value as CSV has it: numbers as they are, texts in one line and never a formula."""
    return value if value is None or isinstance(value, int | float) else csv_text(str(value))
