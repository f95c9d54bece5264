"""The user's keys about the layout of data files; whatever they leave open is detected from the content."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Keys that decide how a file is parsed, for training data and for benchmarks."""

    key: str = "data"
    """Configuration section of these keys, for messages: data, data.sources.NAME or benchmarks.NAME.local."""
    header: Sequence[str] = ()
    """Column names of tables without a header line, and of JSON rows that are lists."""
    delimiter: str = ""
    """Delimiter of a table; empty: detected."""
    quoting: bool | None = None
    """Whether quotation marks around a cell belong to the file format; None: detected."""
    quoting_if_unclear: bool | None = None
    """Value of `quoting` for an ambiguous file, which is logged; None: such a file is an error."""
    unfold: str = ""
    """Path of a column with lists of objects, each of which becomes a row; dots separate nested columns."""
    text_lines: bool = False
    """Whether each line of a text file, and each string of a JSON file, is a row."""
