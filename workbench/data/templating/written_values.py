"""Refuses null, functions, lists and objects where a template would write them as Python code."""

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.runtime import LoopContext, Undefined

TEXT_FILTERS = frozenset(
    ("capitalize", "center", "e", "escape", "forceescape", "format", "indent", "lower", "regex_replace")
    + ("replace", "string", "striptags", "title", "trim", "truncate", "upper", "urlize", "wordwrap")
)
"""Filters that convert any value to a string as `str()` does."""


class NullError(TemplateError):
    """A template would write a null as the word None."""

    def __init__(self) -> None:
        """Build the message."""
        super().__init__("a null would become the word None")


class FunctionError(TemplateError):
    """A template would write a function as its address in memory."""

    def __init__(self, function: Any) -> None:
        """Build the message with the function's name."""
        name = getattr(function, "__name__", type(function).__name__)
        super().__init__(
            f"{name!r} is a function here, which would be written as its address (['{name}'] is a field)"
        )


class ContainerError(TemplateError):
    """A template would write a list or an object as Python code."""

    def __init__(self, value: Any) -> None:
        """Build the message, with advice on how to write a list or an object."""
        if isinstance(value, Mapping):
            way_out = "name one of its fields, or write `| tojson`"
            super().__init__(f"an object would be written as Python code, {str(value):.60} ({way_out})")
            return
        shown = "" if isinstance(value, Iterator) else f", {str(value):.60}"
        way_out = "`| join(', ')` writes its items, `[0]` is the first item"
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            usual = [name for name in ("content", "text", "value") if name in value[0]]
            field = next(iter([*usual, *value[0], "NAME"]))
            way_out = (
                f"`| join('\\n', attribute='{field}')` writes a field of its objects, `[0]` is the first"
            )
        super().__init__(f"a list would be written as Python code{shown} ({way_out})")


def check_null(value: Any) -> None:
    """Refuse null and functions.

    Raises:
        NullError: The value is null.
        FunctionError: The value is a function.
    """
    if value is None:
        raise NullError
    check_function(value)


def check_function(value: Any) -> None:
    """Refuse functions, such as `items` in `row.items`, a method that every object has.

    Raises:
        FunctionError: The value is a function.
    """
    if callable(value) and not isinstance(value, Undefined):
        raise FunctionError(value)


def check_written(value: Any) -> None:
    """Refuse a value that is neither a string nor a number nor a boolean.

    Raises:
        NullError: The value is null.
        FunctionError: The value is a function.
        ContainerError: The value is a list, an object or an iterator.
    """
    if isinstance(value, str):
        return
    check_null(value)
    if isinstance(value, list | tuple | Mapping) or (
        isinstance(value, Iterator) and not isinstance(value, LoopContext)
    ):
        raise ContainerError(value)
