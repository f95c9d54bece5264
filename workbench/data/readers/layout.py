"""How the user says that files of rows are laid out; what is not said is told by their content."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The keys that decide how a file is read, for training data and benchmarks alike."""

    key: str = "data"
    """Section that the keys below stand in, for messages: data, data.sources.NAME, benchmarks.NAME.local."""
    header: Sequence[str] = ()
    """Column names of tables without a header line, and of JSON rows that are lists."""
    delimiter: str = ""
    """What divides the cells of a table; empty: told by the content."""
    quoting: bool | None = None
    """Whether quotation marks around a cell of a table belong to the file's format; None: by the content."""
    quoting_if_unclear: bool | None = None
    """What is taken, and said, where the content leaves it open; None: such a file is refused."""
    unfold: str = ""
    """Column with a list of objects, each of which becomes a row; dots lead further down."""
    text_lines: bool = False
    """Whether each line of a text file, and each text in JSON, is a row of its own."""
