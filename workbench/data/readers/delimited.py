"""Rows of CSV and TSV files, whose dialect is told by their content and not by their name."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from workbench.data.readers.dialect import DELIMITERS, Dialect, dialect_of
from workbench.data.readers.layout import Layout
from workbench.data.readers.row import Row
from workbench.data.readers.text_lines import LONGEST_LINE_BYTES, numbered_lines
from workbench.errors import DataError


def table_rows(path: Path, layout: Layout) -> Iterator[Row]:
    """The rows of a table; every cell is text, and a column without a name is left out.

    Raises:
        DataError: Rows of another length than the header, or quotation marks that don't match.
    """
    dialect = dialect_of(path, layout)
    records = table_records(path, dialect)
    header = list(layout.header) or next(records, (0, []))[1]
    twice = next((name for name, count in Counter(header).items() if name and count > 1), None)
    if twice is not None:
        raise DataError(f"{path}:{dialect.first_line}: two columns are called {twice!r} (rename one)")
    for line, cells in records:
        where = f"{path}:{line}"
        if len(cells) != len(header):
            shown = [name[:40] or repr("") for name in header[:12]]
            names = ", ".join([*shown, *["..."][: len(header) > 12]])
            divided = DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
            raise DataError(
                f"{where}: {len(cells)} cells under {len(header)} column names ({names}); cells are divided "
                f"by {divided} ({dialect.key}.delimiter says otherwise)"
            )
        pairs = zip(header, cells, strict=True)
        yield Row({name: cell for name, cell in pairs if name}, where)


def table_records(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """The first line and the cells of each record, blank lines passed over.

    Raises:
        DataError: A record that can't be divided into cells.
    """
    csv.field_size_limit(LONGEST_LINE_BYTES)
    lines = (line for number, line in numbered_lines(path) if number >= dialect.first_line)
    reader = csv.reader(lines, strict=True, **dialect.options())
    offset, begun = dialect.first_line - 1, dialect.first_line
    try:
        for cells in reader:
            if cells:
                yield begun, cells
            begun = reader.line_num + offset + 1
    except csv.Error as error:
        raise DataError(f"{path}:{begun}: malformed table, {explained(error, dialect)}") from error


def explained(error: csv.Error, dialect: Dialect) -> str:
    """What is wrong with a record, and the way out."""
    reason = str(error)
    if "new-line character" in reason:
        return "a carriage return alone is no line end (save it with LF or CRLF)"
    if "unexpected end of data" in reason:
        reason = "a quotation mark opens a cell that is never closed"
    return f"{reason} ({dialect.key}.quoting=false takes quotation marks as characters)"
