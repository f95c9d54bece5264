"""Reads rows from CSV and TSV files; delimiter and quoting are detected from the content, not the name."""

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
    """Yield the rows of a CSV or TSV file. Every cell is a string; columns without a name are dropped.

    Column names are `layout.header` if it is set, else the first line of the table.

    Raises:
        DataError: The file can't be read, two columns have the same name, a row has another number of cells
            than the header, or quotation marks are unclosed or ambiguous.
        ConfigError: `layout.delimiter` is not a delimiter.
    """
    dialect = dialect_of(path, layout)
    records = table_records(path, dialect)
    header = list(layout.header) or next(records, (0, []))[1]
    duplicate = next((name for name, count in Counter(header).items() if name and count > 1), None)
    if duplicate is not None:
        raise DataError(f"{path}:{dialect.first_line}: two columns are called {duplicate!r} (rename one)")
    for line, cells in records:
        where = f"{path}:{line}"
        if len(cells) != len(header):
            names = ", ".join([name[:40] or repr("") for name in header[:12]] + ["..."] * (len(header) > 12))
            delimiter = DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
            raise DataError(
                f"{where}: {len(cells)} cells under {len(header)} column names ({names}); cells are split "
                f"at {delimiter} ({dialect.key}.delimiter names another delimiter)"
            )
        pairs = zip(header, cells, strict=True)
        yield Row({name: cell for name, cell in pairs if name}, where)


def table_records(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line in the file, its cells) for each record, the header included.

    Blank lines are skipped.

    Raises:
        DataError: The file can't be read, or the csv module can't parse a record.
    """
    csv.field_size_limit(LONGEST_LINE_BYTES)
    lines = (line for number, line in numbered_lines(path) if number >= dialect.first_line)
    reader = csv.reader(lines, strict=True, **dialect.options())
    offset, record_line = dialect.first_line - 1, dialect.first_line
    try:
        for cells in reader:
            if cells:
                yield record_line, cells
            record_line = reader.line_num + offset + 1
    except csv.Error as error:
        raise DataError(f"{path}:{record_line}: malformed table, {explained(error, dialect)}") from error


def explained(error: csv.Error, dialect: Dialect) -> str:
    """Return the reason of a parse error of the csv module, with advice, for a message."""
    reason = str(error)
    if "new-line character" in reason:
        return "a carriage return alone does not end a line (save the file with LF or CRLF)"
    if "unexpected end of data" in reason:
        reason = "a quotation mark opens a cell that is never closed"
    return f"{reason} ({dialect.key}.quoting=false takes quotation marks as characters)"
