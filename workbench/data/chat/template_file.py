"""Reads a chat template from a file."""

from pathlib import Path

from workbench.data.templating.render import RenderingError, chat_template
from workbench.data.templating.sandbox import MAX_SOURCE
from workbench.errors import DataError


def read_template(path: str) -> str:
    """Read a chat template from a file, and check that it compiles.

    Raises:
        DataError: The file can't be read, is not UTF-8, is too long, or is not a Jinja template.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            text = file.read(MAX_SOURCE + 1)
    except OSError as error:
        raise DataError(f"data.template: {path!r} can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"data.template: {path!r} is not UTF-8 text") from error
    try:
        chat_template(text)
    except RenderingError as error:
        raise DataError(f"data.template: {path!r}: {error}") from error
    return text
