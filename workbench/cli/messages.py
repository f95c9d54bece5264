"""What a user reads: an error as one line, log lines, and no control characters of others' text in them."""

import logging
import sys

from hydra.errors import HydraException
from rich.cells import cell_len, chop_cells

from workbench.config.error_hints import plainly
from workbench.errors import WorkbenchError
from workbench.shipped import options
from workbench.shown import clean
from workbench.wrapping import output_width
from workbench.wrapping import wrapped as lines_of_width

COLUMNS = 80
"""Width of the terminal that texts are wrapped for."""

LONGEST = 2000
"""Characters of an error line that are shown."""


def wrapped(text: str, indent: str = "") -> list[str]:
    """A text in lines of at most 80 columns, in which a Chinese character takes two."""
    width, lines = COLUMNS - len(indent), [""]
    words = (part for word in clean(text).split() for part in chop_cells(word, width))
    for word in words:
        joined = f"{lines[-1]} {word}".lstrip()
        if cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return [f"{indent}{line}" for line in lines]


def one_line(error: BaseException) -> str:
    """An error's message, and its cause's where that says more, without line breaks or control characters."""
    text = _message(error)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"


def _message(error: BaseException) -> str:
    """The whole message as one line."""
    parts = [str(error)]
    if isinstance(error, HydraException) and error.__cause__ is not None:
        parts.append(str(error.__cause__))
    if isinstance(error, WorkbenchError):
        return clean(" ".join(parts[0].split()))
    return clean(plainly(" ".join(parts), options))


class CleanFormatter(logging.Formatter):
    """Log lines without control characters and secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The line as it is shown; on a terminal in lines of its width, broken between words."""
        text = clean(super().format(record))
        if getattr(record, "is_wrapped", False) or not sys.stdout.isatty():
            return text
        return "\n".join(part for line in text.split("\n") for part in lines_of_width(line, output_width()))
