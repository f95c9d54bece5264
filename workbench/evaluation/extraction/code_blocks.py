"""Finds the code in a generated text, which models put between ``` marks."""

import re

_BLOCK = re.compile(r"^[ \t]*```[ \t]*(\S*)[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.S | re.M)
"""Language and content of a block; the content of a block that the text doesn't close ends with the text."""
_PYTHON = ("python", "python3", "py")


def code(text: str) -> str:
    """Return the first block of Python in a text, else its first block, else the text.

    The code is returned as written, since white space at its start is its indentation.
    """
    blocks: list[tuple[str, str]] = _BLOCK.findall(text)
    python = [content for language, content in blocks if language.lower() in _PYTHON]
    return (python or [content for _, content in blocks] or [text])[0]
