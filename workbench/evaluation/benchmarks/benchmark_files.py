"""Reads the rows of benchmark files, with the same reader as training data."""

from dataclasses import replace
from pathlib import Path

from workbench.config.benchmark import LocalConfig
from workbench.data.readers.layout import Layout
from workbench.data.readers.read_rows import whole_rows
from workbench.data.readers.row import Row as Row
from workbench.data.readers.text_lines import numbered_lines
from workbench.data.readers.unfold import unfolded
from workbench.errors import DataError


def read_rows(path: Path, local: LocalConfig, key: str = "local") -> list[Row]:
    """Return all rows of a file, with columns from the files of `local.beside`, unfolded by `local.unfold`.

    Args:
        path: the file.
        local: layout of the file.
        key: configuration key of `local`, for error messages.

    Raises:
        DataError: The file is missing, malformed or of an unknown kind; the message names file and line.
    """
    layout = Layout(
        key=key,
        header=local.header,
        delimiter=local.delimiter,
        quoting=None if local.quoting else False,
        quoting_if_unclear=True,
        unfold=local.unfold,
    )
    rows = list(whole_rows(path, layout))
    for column, pattern in local.beside.items():
        rows = _with_column(rows, column, path.parent / pattern.replace("{stem}", path.stem), path)
    return list(unfolded(rows, local.unfold, f"{key}.unfold")) if local.unfold else rows


def _with_column(rows: list[Row], column: str, column_file: Path, path: Path) -> list[Row]:
    """Return the rows of `path` with one more column: line n of `column_file` is the value of row n."""
    if not column_file.is_file():
        raise DataError(f"{column_file}: no such file (its lines are the column {column!r} of {path})")
    lines = [line.rstrip("\r\n") for _, line in numbered_lines(column_file)]
    if len(lines) != len(rows):
        raise DataError(
            f"{column_file}: {len(lines)} lines for the {len(rows)} rows of {path} (one line a row)"
        )
    return [replace(row, values={**row.values, column: line}) for row, line in zip(rows, lines, strict=True)]
