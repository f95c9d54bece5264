"""Writes rows as CSV that spreadsheets and data frames read in the same way."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from workbench.leaderboard.board import Board
from workbench.leaderboard.outputs import rows
from workbench.leaderboard.outputs.texts import csv_text

Entry = TypeVar("Entry")


def scores(board: Board) -> str:
    """Return the contents of leaderboard.csv: one line per score, that is per model and column."""
    return _csv(rows.SCORE_COLUMNS, rows.scores(board))


def differences(board: Board) -> str:
    """Return the contents of differences.csv: one line per difference of two models in a column or mean."""
    return _csv(rows.DIFFERENCE_COLUMNS, rows.differences(board))


def _csv(columns: Mapping[str, Callable[[Entry], Any]], entries: Iterable[Entry]) -> str:
    """Return CSV text: a header line and one line per entry; None becomes an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    values = list(columns.values())
    writer.writerows([field(value(entry)) for value in values] for entry in entries)
    return buffer.getvalue()


def field(value: Any) -> Any:
    """Convert a value for CSV: numbers stay, texts become a line that no spreadsheet takes for a formula."""
    return value if value is None or isinstance(value, int | float) else csv_text(str(value))
