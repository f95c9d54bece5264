"""Wraps and pads texts to a terminal's width, in which a Chinese character takes two columns.

`plain_console` prints texts as they are.
"""

import shutil
import sys
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, chop_cells

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 100
"""Width in columns if the output is not a terminal."""


def output_width() -> int:
    """Return the columns of the terminal if stdout is one, else PLAIN_WIDTH."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH


def plain_console(**settings: Any) -> "Console":
    """Return a new rich console, with these settings, that prints texts as they are.

    rich's own consoles take `[b]` and `:smile:` in a text for markup, and raise an error at `[/INST]`.
    """
    from rich.console import Console  # only commands that print tables need it

    return Console(markup=False, emoji=False, **settings)


def wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    """Wrap a text to lines of at most `width` columns, at spaces and between Chinese characters.

    Args:
        text: One line.
        width: Columns. A word of ASCII characters that is longer, such as a path, is left whole.
        indent: Start of each line except the first.
    """
    if cell_len(text) <= width:
        return [text]
    lines, is_empty = [""], True
    for word in text.split(" "):
        pieces = [word] if word.isascii() else chop_cells(word, max(width - len(indent), 2))
        for number, piece in enumerate(pieces):
            joined = f"{lines[-1]}{'' if is_empty or number else ' '}{piece}"
            if is_empty or cell_len(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(indent + piece)
            is_empty = False
    return lines


def padded(text: str, width: int) -> str:
    """Return the text with trailing spaces up to `width` columns; a wider text is returned unchanged."""
    return text + " " * (width - cell_len(text))
