"""Detects a table's delimiter, and whether cells are quoted, from the table's content."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.data.notices import say_once
from workbench.data.readers.layout import Layout
from workbench.data.readers.text_lines import LONGEST_LINE_BYTES, numbered_lines
from workbench.errors import ConfigError, DataError

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
"""Delimiter -> its name in messages; the most common first."""

NAMES = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|", "\\t": "\t"}
"""Name of a delimiter in the configuration -> the delimiter; a single character is its own name."""

SAMPLE_LINES = 2000
"""Number of lines that are read to detect the delimiter."""


@dataclass(frozen=True)
class Dialect:
    """Delimiter and quoting of a table."""

    delimiter: str
    quoting: bool
    """Whether quotation marks around a cell belong to the file format instead of to the text."""
    first_line: int
    """Line of the header: 2 if the first line is Excel's `sep=;`."""
    key: str
    """Configuration section, for error messages."""

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments for Python's csv module."""
        quoting = csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE
        return {"delimiter": self.delimiter, "quoting": quoting}


@dataclass
class Survey:
    """What parsing a table with one delimiter, with or without quoting, shows about the two choices.

    That is its number of columns, whether every record has as many, and how cells use quotation marks.
    """

    num_columns: int = 0
    """Number of cells in the header."""
    is_table: bool = True
    """Whether all records have as many cells as the header, and all quotation marks are closed."""
    has_long_cell: bool = False
    """Whether a cell contains a line break."""
    quoted_header: bool = False
    """Whether a cell of the header is in quotation marks."""
    doubled: list[tuple[int, str]] = field(default_factory=list)
    """Line and text of the first cell in quotation marks that has doubled marks inside, or is empty."""
    wrapped: list[tuple[int, str]] = field(default_factory=list)
    """Line and text of the first cell enclosed in quotation marks that has no marks inside."""
    stray: list[tuple[int, str]] = field(default_factory=list)
    """Line and text of the first other cell with a quotation mark, as `5" disk`.

    A program that quotes cells would quote it.
    """
    has_pairs: bool = False
    """Whether a cell that isn't in marks has two marks in a row, like a line of a longer quoted cell."""


def dialect_of(path: Path, layout: Layout) -> Dialect:
    """Return delimiter and quoting of a table: from the user's keys, else detected from the content.

    A first line `sep=;`, as Excel writes it, also gives the delimiter. Without a key, quoting is detected
    only if tabs are the delimiter; otherwise quotation marks around a cell belong to the format. Ambiguous
    tables are logged.

    Raises:
        ConfigError: The user's delimiter is neither a single character nor a known name.
        DataError: The file can't be read, or the quotation marks of a tab-separated table are ambiguous.
    """
    sample = list(islice(numbered_lines(path), SAMPLE_LINES))
    excel_mark = re.fullmatch(r'"?sep=(.)"?\r?\n?', sample[0][1], re.IGNORECASE) if sample else None
    first_line = 2 if excel_mark else 1
    lines = [line for _, line in sample][first_line - 1 :]
    is_whole = len(sample) < SAMPLE_LINES
    dialect = Dialect("", layout.quoting is not False, first_line, layout.key)
    if layout.delimiter:
        dialect = replace(dialect, delimiter=delimiter_named(layout.delimiter, layout.key))
    elif excel_mark:
        dialect = replace(dialect, delimiter=excel_mark[1])
    else:
        dialect = replace(dialect, delimiter=delimiter_of(lines, path, layout, is_whole))
    if layout.quoting is None and dialect.delimiter == "\t":
        return replace(dialect, quoting=tabs_have_quoting(path, layout, dialect))
    if layout.quoting is None:
        say_if_ambiguous(lines, path, layout, dialect)
    return dialect


def delimiter_named(written: str, key: str) -> str:
    """Return the delimiter for a value of the user's key `delimiter`: a character, or a name such as tab.

    Raises:
        ConfigError: It is neither a single character nor a known name.
    """
    delimiter = NAMES.get(written, written)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        known = ", ".join(name for name in NAMES if name.isalpha())
        raise ConfigError(f"{key}.delimiter: {written!r} is not a delimiter (one character, or {known})")
    return delimiter


def delimiter_of(lines: Sequence[str], path: Path, layout: Layout, is_whole: bool) -> str:
    """Return the delimiter that splits every record into as many cells as the header, at least two.

    The delimiter of the file name is a tab for .tsv, else a comma. It is returned if several delimiters fit
    (this is logged), if the table has one column, or if no delimiter fits but the header contains it. If no
    delimiter fits otherwise, the header's most frequent one is returned.

    Args:
        lines: The table, or only its first lines.
        path: The file, for its suffix and for the message about several possible delimiters.
        layout: The user's keys: quoting and column names.
        is_whole: Whether `lines` are the whole table.
    """
    own = "\t" if path.suffix.lower() == ".tsv" else ","
    candidates = sorted(DELIMITERS, key=lambda delimiter: delimiter != own)  # on a tie, the file name decides
    columns: dict[str, int] = {}
    for delimiter in candidates:
        readings = [layout.quoting] if layout.quoting is not None else [True, False]
        surveys = [survey(lines, delimiter, quoting, layout.header, is_whole) for quoting in readings]
        columns[delimiter] = max((parsed.num_columns for parsed in surveys if parsed.is_table), default=0)
    tables = [delimiter for delimiter in candidates if columns[delimiter] > 1]
    if len(tables) > 1 and not layout.header:
        say_once(
            f"{path}: cells are split at {DELIMITERS[tables[0]]}; {DELIMITERS[tables[1]]} would give all "
            f"lines the same number of cells, too ({layout.key}.delimiter decides)"
        )
    if tables or columns[own]:
        return [*tables, own][0]
    header = next((line for line in lines if line.strip()), "")
    return own if own in header else max(candidates, key=header.count)


def survey(
    lines: Iterable[str], delimiter: str, quoting: bool, header: Sequence[str], is_whole: bool = True
) -> Survey:
    """Parse a table with one delimiter, with or without quoting; return columns and use of quotation marks.

    Args:
        lines: The table, or only its first lines.
        delimiter: The delimiter.
        quoting: Whether quotation marks around a cell belong to the file format.
        header: Column names, if the table has no header line.
        is_whole: Whether `lines` are the whole table.
    """
    result = Survey(num_columns=len(header))
    csv.field_size_limit(LONGEST_LINE_BYTES)
    reader = csv.reader(lines, strict=True, **Dialect(delimiter, quoting, 1, "").options())
    records = nonblank(reader)
    line = 1
    try:
        for cells in records:
            is_header = not result.num_columns
            result.num_columns = result.num_columns or len(cells)
            result.is_table = result.is_table and len(cells) == result.num_columns
            for cell in cells:
                result.has_long_cell = result.has_long_cell or "\n" in cell
                if '"' in cell:
                    note_quotation_marks(result, cell, line, is_header)
            line = reader.line_num + 1
    except csv.Error as error:
        result.is_table = result.is_table and not is_whole and "unexpected end" in str(error)
    return result


def nonblank(records: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield the records of a table that aren't blank lines."""
    return (cells for cells in records if cells)


def note_quotation_marks(result: Survey, cell: str, line: int, is_header: bool) -> None:
    """Record in `result` how a cell uses quotation marks: around it, doubled inside, or stray.

    Only the first cell of each kind is recorded, with its line. The kinds mean what `Survey` says only if
    the table is parsed without quoting.
    """
    inner = cell[1:-1]
    is_wrapped = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    if is_wrapped and is_header:
        result.quoted_header = True
    result.has_pairs = result.has_pairs or (not is_wrapped and '""' in cell)
    if not is_wrapped:
        first_cell = result.stray
    else:
        first_cell = result.doubled if '""' in inner or not inner else result.wrapped
    if not first_cell:
        first_cell.append((line, cell))


def tabs_have_quoting(path: Path, layout: Layout, dialect: Dialect) -> bool:
    """Detect whether cells of a tab-separated table are quoted, as pandas and Excel write them.

    These programs quote each cell that contains a quotation mark, and double the mark. If cells contain marks
    that are not doubled, the marks are plain characters. The full file is read. If both readings are
    possible, `layout.quoting_if_unclear` is returned and logged.

    Raises:
        DataError: Both readings are possible, and `layout.quoting_if_unclear` is None.
    """
    if not any('"' in line for _, line in numbered_lines(path)):
        return False
    literal, quoted = (
        survey(table_lines(path, dialect), "\t", quoting, layout.header) for quoting in (False, True)
    )
    if not quoted.is_table or not literal.is_table:
        return quoted.is_table
    if literal.quoted_header or (literal.doubled and not literal.stray):
        return True
    can_be_long = quoted.has_long_cell and (literal.num_columns == 1 or literal.has_pairs)
    if literal.stray and not literal.doubled and not can_be_long:
        return False  # a quoted cell whose lines each look like a whole record is rare
    line, cell = min(literal.doubled + literal.wrapped + literal.stray)
    where = f"{path}:{line + dialect.first_line - 1}"
    unclear = f"{where}: {cell[:40]!r} is either a quoted cell or a text with quotation marks"
    if layout.quoting_if_unclear is None:
        raise DataError(f"{unclear} ({layout.key}.quoting=true removes the marks, false keeps them)")
    say_once(f"{unclear}; the marks are removed ({layout.key}.quoting=false keeps them)")
    return layout.quoting_if_unclear


def table_lines(path: Path, dialect: Dialect) -> Iterator[str]:
    """Yield the lines of a table's file, without Excel's `sep=` line.

    Raises:
        DataError: While iterating: the file can't be read, or a line is too long or not text.
    """
    return (line for number, line in numbered_lines(path) if number >= dialect.first_line)


def say_if_ambiguous(lines: Sequence[str], path: Path, layout: Layout, dialect: Dialect) -> None:
    """Log if a table can be read in two ways: quoted cells contain line breaks, or each line is a row.

    `lines` are the table or its first lines.
    """
    if not any('"' in line for line in lines):
        return
    quoted, literal = (survey(lines, dialect.delimiter, quoting, layout.header) for quoting in (True, False))
    if quoted.is_table and quoted.has_long_cell and literal.is_table and literal.num_columns > 1:
        say_once(
            f"{path}: quoted cells contain line breaks, and each of their lines could be a row, too "
            f"({layout.key}.quoting=false reads each line as a row)"
        )
