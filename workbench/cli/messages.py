"""Formats errors and log lines for the terminal, without control characters and secrets."""

import logging
import sys

from hydra.errors import HydraException

from workbench.cli.unknown_keys import plainly
from workbench.errors import FileOfAnotherToolError, WorkbenchError
from workbench.shipped import options
from workbench.shown import clean
from workbench.wrapping import output_width, wrapped

COLUMNS = 80
"""Width to which texts are wrapped."""

LONGEST = 2000
"""Maximum characters of an error line."""


def in_80_columns(text: str, indent: str = "") -> list[str]:
    """Return a text as lines of at most 80 columns, each with `indent` at its start; secrets are masked.

    A longer word of ASCII characters, such as a path, is left whole.
    """
    lines = wrapped(" ".join(clean(text).split()), COLUMNS - len(indent), indent="")
    return [f"{indent}{line}" for line in lines]


def one_line(error: BaseException) -> str:
    """Return an error's message as one line, cut after `LONGEST` characters, with secrets masked.

    Control characters are replaced. Messages of Hydra include their cause. Only a `FileOfAnotherToolError`
    keeps its lines, because one is a command to copy.
    """
    text = _message(error)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"


def _message(error: BaseException) -> str:
    """Return an error's message in full: one line, or several for a file of another tool."""
    messages = [str(error)]
    if isinstance(error, FileOfAnotherToolError):  # its command is copied, so it has a line of its own
        return "\n".join(clean(" ".join(line.split())) for line in messages[0].split("\n"))
    if isinstance(error, HydraException) and error.__cause__ is not None:
        messages.append(str(error.__cause__))
    if isinstance(error, WorkbenchError):
        return clean(" ".join(messages[0].split()))
    return clean(plainly(" ".join(messages), options))


class CleanFormatter(logging.Formatter):
    """Formats log lines without control characters and secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a log record as text; on a terminal, wrapped to its width unless the record is already."""
        text = clean(super().format(record))
        if getattr(record, "is_wrapped", False) or not sys.stdout.isatty():
            return text
        return "\n".join(
            wrapped_line for line in text.split("\n") for wrapped_line in wrapped(line, output_width())
        )
