"""Which values a template may write into a text: no null, function, list or object as Python spells them."""

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.runtime import LoopContext, Undefined

TEXT_FILTERS = frozenset(
    ("capitalize", "center", "e", "escape", "forceescape", "format", "indent", "lower", "regex_replace")
    + ("replace", "string", "striptags", "title", "trim", "truncate", "upper", "urlize", "wordwrap")
)
"""Filters that make a text of any value, as Python spells it."""


class NullError(TemplateError):
    """A null would be written as the word None."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("a null would become the word None")


class FunctionError(TemplateError):
    """A function would be written as its address in memory."""

    def __init__(self, function: Any) -> None:
        """Name it."""
        name = getattr(function, "__name__", type(function).__name__)
        super().__init__(
            f"{name!r} is a function here, which would be written as its address (['{name}'] is a field)"
        )


class ContainerError(TemplateError):
    """A list or an object would be written as Python code."""

    def __init__(self, value: Any) -> None:
        """Name the way out for a list or an object."""
        if isinstance(value, Mapping):
            way_out = "name one of its fields, or write `| tojson`"
            super().__init__(f"an object would be written as Python code, {str(value):.60} ({way_out})")
            return
        shown = "" if isinstance(value, Iterator) else f", {str(value):.60}"
        super().__init__(
            f"a list would be written as Python code{shown} (`| join(', ')` writes its entries, `[0]` is the "
            "first one, a loop writes each)"
        )


def check_null(value: Any) -> None:
    """Refuse a null and a function.

    Raises:
        NullError: the value is null.
        FunctionError: the value is a function.
    """
    if value is None:
        raise NullError
    check_function(value)


def check_function(value: Any) -> None:
    """Refuse a function, such as the method `items` of every object.

    Raises:
        FunctionError: the value is a function.
    """
    if callable(value) and not isinstance(value, Undefined):
        raise FunctionError(value)


def check_written(value: Any) -> None:
    """Refuse a value that is about to be written and is not one text, number or truth value.

    Raises:
        NullError: the value is null.
        FunctionError: the value is a function.
        ContainerError: the value is a list, an object or an iterator.
    """
    if isinstance(value, str):
        return
    check_null(value)
    if isinstance(value, list | tuple | Mapping) or (
        isinstance(value, Iterator) and not isinstance(value, LoopContext)
    ):
        raise ContainerError(value)
