"""Checks the filters and string methods that templates call against the limits, before they run."""

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
PASSTHROUGH = (
    *("abs", "attr", "batch", "count", "d", "default", "dictsort", "first", "float", "groupby", "int"),
    *("items", "last", "length", "list", "map", "max", "min", "random", "reject", "rejectattr", "reverse"),
    *("round", "select", "selectattr", "slice", "sort", "sum", "unique"),
)
"""Filters that return their input, its items or a number; they never build a new string."""

Guard = Callable[..., int]
"""Takes the arguments of a filter or method, and returns how many characters its result can have at most."""


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
"""Filter -> guard; the result of every other filter is about as long as its input."""

GUARDED = frozenset((*FILTERS, *SLOW, *ITEMWISE, *ATTRIBUTES))
"""Filters that need a check even for a string."""

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
"""Method of strings and bytes -> guard."""


def check_filter(name: str, meter: Meter, value: Any, *arguments: Any, **named: Any) -> None:
    """Check, before a filter is called, that its result won't be too long and won't take too long.

    Args:
        name: The filter.
        meter: Gets the characters that the result can have at most.
        value: The filter's input.
        arguments: The filter's other arguments.
        named: The filter's keyword arguments.

    Raises:
        BoundError: A limit would be exceeded; the message names the filter.
    """
    meter.tick()
    if name in ITEMWISE and hasattr(value, "__len__") and len(value) > MAX_STEPS:
        raise BoundError(f"calls the filter {name!r} over more than {MAX_STEPS:,} items")
    if name in ATTRIBUTES:
        paths = [text for text in (*arguments, *named.values()) if isinstance(text, str)]
        if any(path.count(".") > MAX_ATTRIBUTE for path in paths) and name != "join":
            limit = f"an attribute of more than {MAX_ATTRIBUTE:,} names"
            raise BoundError(f"calls the filter {name!r} with {limit}")
    if name in SLOW and size(value) > sizes.MAX_SLOW:
        raise BoundError(f"calls the filter {name!r} over more than {sizes.MAX_SLOW:,} characters")
    if name in FILTERS:
        meter.charge(FILTERS[name](value, *arguments, **named), f"a text with the filter {name!r}")
    elif name not in PASSTHROUGH and not isinstance(value, str):
        bound(size(value), f"a text with the filter {name!r}")


def check_call(meter: Meter, function: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Check, before a method of a string, bytes or a number is called, that its result won't be too long.

    Args:
        meter: Gets the characters that the result can have at most.
        function: The bound method.
        arguments: Its positional arguments.
        named: Its keyword arguments.

    Raises:
        BoundError: A limit would be exceeded; the message names the method.
    """
    owner, name = function.__self__, function.__name__
    if name in METHODS and isinstance(owner, TEXTS):
        meter.charge(METHODS[name](owner, *arguments, **named), f"a text with the method {name!r}")
    elif name == "to_bytes" and arguments:
        meter.charge(sizes.number(arguments[0]), "bytes with the method 'to_bytes'")


@pass_environment
def sum_filter(environment: Any, iterable: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    """Return `start` plus all items, or an attribute of each item: the filter `sum`.

    Each addition is checked against the limits. A string as `start` raises a TypeError.
    """
    if isinstance(start, str):
        raise TypeError("sum() can't sum strings")
    keys = attribute.split(".") if isinstance(attribute, str) else [attribute]
    result = start
    for item in iterable:
        for key in keys if attribute is not None else ():
            item = environment.getitem(item, int(key) if str(key).isdigit() else key)
        result = environment.call_binop(None, "+", result, item)
    return result


def lorem_ipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:  # noqa: A002
    """Return filler text: the function `lipsum` of templates.

    Raises:
        BoundError: More than 1,000 paragraphs (`n`), or words of a paragraph (`max`), are asked for.
    """
    if n > 1000 or max > 1000:
        raise BoundError("calls lipsum with more than 1,000 paragraphs or words")
    return generate_lorem_ipsum(n, html, min, max)
