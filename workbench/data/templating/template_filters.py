"""The filters and methods of templates, each held to the bounds of meter.py before it runs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2.utils import generate_lorem_ipsum, pass_environment

from workbench.data.templating import template_sizes as sizes
from workbench.data.templating.render_budget import MAX_STEPS, BoundError, Meter, bound, size

SLOW = ("pprint", "striptags", "title", "urlize", "wordcount", "wordwrap", "xmlattr", "filesizeformat")
ITEMWISE = ("batch", "groupby", "list", "map", "max", "min", "reject", "select", "slice", "sort", "unique")
ATTRIBUTES = ("groupby", "join", "map", "max", "min", "reject", "rejectattr", "select", "selectattr", "sort")
TEXTS = (str, bytes)
MAX_ATTRIBUTE = 1_000
PASSING = (
    *("abs", "attr", "batch", "count", "d", "default", "dictsort", "first", "float", "groupby", "int"),
    *("items", "last", "length", "list", "map", "max", "min", "random", "reject", "rejectattr", "reverse"),
    *("round", "select", "selectattr", "slice", "sort", "sum", "unique"),
)
"""Filters that hand on what they are given, or a number: they make no text."""

Guard = Callable[..., int]
"""Characters that a filter or method would make of its arguments, at most."""


FILTERS: Mapping[str, Guard] = {
    "batch": sizes.filled,
    "center": sizes.padded,
    "format": sizes.formatted,
    "indent": sizes.indented,
    "replace": sizes.replaced,
    "round": sizes.rounded,
    "tojson": sizes.as_json,
    "wordwrap": sizes.wrapped,
}
"""Guards of jinja's filters; all others make of a value something of about its length."""

GUARDED = frozenset((*FILTERS, *SLOW, *ITEMWISE, *ATTRIBUTES))
"""Filters that are checked whatever they are given."""

METHODS: Mapping[str, Guard] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), sizes.padded),
    **dict.fromkeys(("rfind", "rindex", "rpartition"), sizes.searched),
    **dict.fromkeys(("encode", "decode"), sizes.encoded),
    "expandtabs": sizes.with_tabs,
    "hex": sizes.hexadecimal,
    "join": sizes.joined,
    "replace": sizes.replaced,
    "rsplit": sizes.split_up_backwards,
    "split": sizes.split_up,
    "splitlines": sizes.lines,
    "translate": sizes.translated,
}
"""Guards of the methods of texts and bytes, by name."""


def check_filter(name: str, meter: Meter, value: Any, *arguments: Any, **named: Any) -> None:
    """Refuse a filter whose result would be too long, or would take too long.

    Raises:
        BoundError: with the filter's name.
    """
    meter.tick()
    if name in ITEMWISE and hasattr(value, "__len__") and len(value) > MAX_STEPS:
        raise BoundError(f"calls the filter {name!r} over more than {MAX_STEPS:,} items")
    if name in ATTRIBUTES:
        paths = [text for text in (*arguments, *named.values()) if isinstance(text, str)]
        if any(path.count(".") > MAX_ATTRIBUTE for path in paths) and name != "join":
            parts = f"an attribute of more than {MAX_ATTRIBUTE:,} parts"
            raise BoundError(f"calls the filter {name!r} with {parts}")
    if name in SLOW and size(value) > sizes.MAX_SLOW:
        raise BoundError(f"calls the filter {name!r} over more than {sizes.MAX_SLOW:,} characters")
    if name in FILTERS:
        meter.charge(FILTERS[name](value, *arguments, **named), f"with the filter {name!r} a text")
    elif name not in PASSING and not isinstance(value, str):
        bound(size(value), f"with the filter {name!r} a text")


def check_call(meter: Meter, function: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Refuse a call of a method of a text or a number whose result would be too long.

    Raises:
        BoundError: with the method's name.
    """
    owner, name = function.__self__, function.__name__
    if name in METHODS and isinstance(owner, TEXTS):
        meter.charge(METHODS[name](owner, *arguments, **named), f"with the method {name!r} a text")
    elif name == "to_bytes" and arguments:
        meter.charge(sizes.number(arguments[0]), "with the method 'to_bytes' bytes")


@pass_environment
def total(environment: Any, iterable: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    """The filter `sum`, each addition within the bounds."""
    if isinstance(start, str):
        raise TypeError("sum() can't sum strings")
    parts = attribute.split(".") if isinstance(attribute, str) else [attribute]
    result = start
    for item in iterable:
        for part in parts if attribute is not None else ():
            item = environment.getitem(item, int(part) if str(part).isdigit() else part)
        result = environment.call_binop(None, "+", result, item)
    return result


def lorem_ipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:  # noqa: A002
    """The function `lipsum`, of at most 1,000 paragraphs of 1,000 words."""
    if n > 1000 or max > 1000:
        raise BoundError("calls lipsum with more than 1,000 paragraphs or words")
    return generate_lorem_ipsum(n, html, min, max)
