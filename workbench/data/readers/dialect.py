"""What divides the cells of a table, and whether its quotation marks quote: told by its content."""

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
"""What may divide cells, the commonest first."""

NAMES = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|", "\\t": "\t"}
"""How a delimiter may be written in the configuration besides as itself."""

SAMPLE_LINES = 2000
"""Of a table, so many lines tell what divides its cells."""


@dataclass(frozen=True)
class Dialect:
    """How a table is written."""

    delimiter: str
    quoting: bool
    """Whether a cell may stand in quotation marks that are no part of its text."""
    first_line: int
    """2 where Excel's `sep=;` stands in the first one."""
    key: str
    """Section of the configuration, for messages."""

    def options(self) -> dict[str, Any]:
        """The dialect as Python's csv module takes it."""
        quoting = csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE
        return {"delimiter": self.delimiter, "quoting": quoting}


@dataclass
class Survey:
    """What a table looks like when it is read in one dialect."""

    num_columns: int = 0
    """Of the header."""
    is_table: bool = True
    """Whether all records have as many cells as the header, and quotation marks match."""
    has_long_cell: bool = False
    """Whether a cell goes over several lines."""
    quoted_header: bool = False
    doubled: list[tuple[int, str]] = field(default_factory=list)
    """Line and text of the first cell in quotation marks whose own marks are doubled."""
    wrapped: list[tuple[int, str]] = field(default_factory=list)
    """Of the first cell that merely begins and ends with a quotation mark."""
    stray: list[tuple[int, str]] = field(default_factory=list)
    """Of the first cell with quotation marks elsewhere, which a program that quotes would have quoted."""
    has_pairs: bool = False
    """Whether one of these cells has two marks in a row, as within a quoted cell over several lines."""


def dialect_of(path: Path, layout: Layout) -> Dialect:
    """The dialect of a table.

    Raises:
        DataError: Its quotation marks can be read in two ways.
    """
    sample = list(islice(numbered_lines(path), SAMPLE_LINES))
    named = re.fullmatch(r'"?sep=(.)"?\r?\n?', sample[0][1], re.IGNORECASE) if sample else None
    first_line = 2 if named else 1
    lines = [line for _, line in sample][first_line - 1 :]
    is_whole = len(sample) < SAMPLE_LINES
    dialect = Dialect("", layout.quoting is not False, first_line, layout.key)
    if layout.delimiter:
        dialect = replace(dialect, delimiter=delimiter_named(layout.delimiter, layout.key))
    elif named:
        dialect = replace(dialect, delimiter=named[1])
    else:
        dialect = replace(dialect, delimiter=delimiter_of(lines, path, layout, is_whole))
    if layout.quoting is None and dialect.delimiter == "\t":
        return replace(dialect, quoting=tabs_have_quoting(path, layout, dialect))
    if layout.quoting is None:
        say_if_ambiguous(lines, path, layout, dialect)
    return dialect


def delimiter_named(written: str, key: str) -> str:
    """The delimiter that the configuration names.

    Raises:
        ConfigError: It is no single character.
    """
    delimiter = NAMES.get(written, written)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        known = ", ".join(name for name in NAMES if name.isalpha())
        raise ConfigError(f"{key}.delimiter: {written!r} is no delimiter (one character, or {known})")
    return delimiter


def delimiter_of(lines: Sequence[str], path: Path, layout: Layout, is_whole: bool) -> str:
    """What divides the cells: what gives all records as many cells as the header, and more than one."""
    own = "\t" if path.suffix.lower() == ".tsv" else ","
    candidates = sorted(DELIMITERS, key=lambda delimiter: delimiter != own)  # the name decides between equals
    columns: dict[str, int] = {}
    for delimiter in candidates:
        readings = [layout.quoting] if layout.quoting is not None else [True, False]
        surveys = [survey(lines, delimiter, quoting, layout.header, is_whole) for quoting in readings]
        columns[delimiter] = max((each.num_columns for each in surveys if each.is_table), default=0)
    tables = [delimiter for delimiter in candidates if columns[delimiter] > 1]
    if len(tables) > 1 and not layout.header:
        say_once(
            f"{path}: its cells are divided by {DELIMITERS[tables[0]]}, though {DELIMITERS[tables[1]]} would "
            f"divide every line alike, too ({layout.key}.delimiter decides)"
        )
    if tables or columns[own]:
        return [*tables, own][0]
    header = next((line for line in lines if line.strip()), "")
    return own if own in header else max(candidates, key=header.count)


def survey(
    lines: Iterable[str], delimiter: str, quoting: bool, header: Sequence[str], is_whole: bool = True
) -> Survey:
    """Read a table, or its first lines where it is not whole, as the dialect says."""
    found = Survey(num_columns=len(header))
    csv.field_size_limit(LONGEST_LINE_BYTES)
    reader = csv.reader(lines, strict=True, **Dialect(delimiter, quoting, 1, "").options())
    records = nonblank(reader)
    line = 1
    try:
        for cells in records:
            is_header = not found.num_columns
            found.num_columns = found.num_columns or len(cells)
            found.is_table = found.is_table and len(cells) == found.num_columns
            for cell in cells:
                found.has_long_cell = found.has_long_cell or "\n" in cell
                if '"' in cell:
                    note_quotation_marks(found, cell, line, is_header)
            line = reader.line_num + 1
    except csv.Error as error:
        found.is_table = found.is_table and not is_whole and "unexpected end" in str(error)
    return found


def nonblank(records: Iterator[list[str]]) -> Iterator[list[str]]:
    """The records that have cells."""
    return (cells for cells in records if cells)


def note_quotation_marks(found: Survey, cell: str, line: int, is_header: bool) -> None:
    """Sort a cell that was read without quoting by where its quotation marks stand."""
    inner = cell[1:-1]
    is_wrapped = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    if is_wrapped and is_header:
        found.quoted_header = True
    found.has_pairs = found.has_pairs or (not is_wrapped and '""' in cell)
    kind = found.stray if not is_wrapped else found.doubled if '""' in inner or not inner else found.wrapped
    if not kind:
        kind.append((line, cell))


def tabs_have_quoting(path: Path, layout: Layout, dialect: Dialect) -> bool:
    """Whether a table divided by tabs has quoted cells, as pandas and Excel write them.

    Such programs quote each cell that holds a quotation mark and double the mark. Where cells hold marks that
    are not doubled, a mark is a character like any other.

    Raises:
        DataError: Both ways of reading make sense.
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
        return False  # a quoted cell over lines that are whole records, each with its tabs, is rare
    line, cell = min(literal.doubled + literal.wrapped + literal.stray)
    where = f"{path}:{line + dialect.first_line - 1}"
    unclear = f"{where}: {cell[:40]!r} can be a quoted cell, or a text with its own quotation marks"
    if layout.quoting_if_unclear is None:
        raise DataError(f"{unclear} ({layout.key}.quoting=true takes such marks away, false keeps them)")
    say_once(f"{unclear}; such marks are taken away ({layout.key}.quoting=false keeps them)")
    return layout.quoting_if_unclear


def table_lines(path: Path, dialect: Dialect) -> Iterator[str]:
    """The lines of the table itself."""
    return (line for number, line in numbered_lines(path) if number >= dialect.first_line)


def say_if_ambiguous(lines: Sequence[str], path: Path, layout: Layout, dialect: Dialect) -> None:
    """Say that quoted cells go over several lines, where each of these lines could be a row as well."""
    if not any('"' in line for line in lines):
        return
    quoted, literal = (survey(lines, dialect.delimiter, quoting, layout.header) for quoting in (True, False))
    if quoted.is_table and quoted.has_long_cell and literal.is_table and literal.num_columns > 1:
        say_once(
            f"{path}: quoted cells go over several lines, each of which could be a row as well "
            f"({layout.key}.quoting=false reads them so)"
        )
