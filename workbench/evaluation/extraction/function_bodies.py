"""Gives a function's body the indentation that a model left out, where Python's grammar tells which it is."""

import ast
import re
import warnings
from collections.abc import Iterator

MAX_CHARACTERS = 100_000
"""Longer code is left as it is: no function of a benchmark has as much, and parsing it takes long."""
_INDENTATION = re.compile(r"^[ \t]+(?=\S)", re.M)
_HEAD = "async def function():\n"
"""A function that may have every statement, `await` among them."""


def indented(code: str) -> str:
    """Return a function's body with the indentation that its first line, or each line, lacks.

    Code that starts with white space, or that a module may have, is returned as it is. Else two readings are
    tried, and the first that is Python is returned: the first line has lost the indentation that later lines
    have, and every line has lost it.
    """
    content = code.lstrip("\r\n")
    if not content or content[0].isspace() or len(content) > MAX_CHARACTERS or _is_module(content):
        return code
    readings = [margin + content for margin in _margins(content)]
    readings.append("".join("    " + line if line.strip() else line for line in content.splitlines(True)))
    return next((reading for reading in readings if is_body(reading)), code)


def is_body(code: str) -> bool:
    """Return whether code is Python as the body of a function, which other code may follow."""
    parsed = _parsed(_HEAD + code)
    return parsed is not None and not _returns(parsed.body)


def _is_module(code: str) -> bool:
    """Return whether code is Python by itself, without a `return` or `yield` outside of a function."""
    parsed = _parsed(code)
    return parsed is not None and not _returns(parsed.body)


def _margins(content: str) -> list[str]:
    """Return the indentations that the first line may have lost, four spaces first."""
    return ["    ", *sorted(set(_INDENTATION.findall(content)) - {"    "}, key=len)[:8]]


def _parsed(code: str) -> ast.Module | None:
    """Return code's syntax tree; None: it is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as "\d"
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _returns(statements: list[ast.stmt]) -> bool:
    """Return whether statements have a `return` or `yield` that is in no function among them."""
    return any(isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) for node in _nodes(statements))


def _nodes(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield statements and what is in them, except in functions and classes."""
    waiting: list[ast.AST] = list(statements)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))
