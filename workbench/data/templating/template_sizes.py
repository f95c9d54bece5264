"""Estimates how many characters the result of an operator, filter or method will have, before it runs."""

import re
from collections.abc import Mapping
from typing import Any

from workbench.data.templating.render_budget import MAX_BITS, MAX_CHARACTERS, NODE, depth, size

MAX_SLOW = 100_000
"""Most characters for filters and encodings that are slow."""
MAX_SEARCH = 1_000_000_000
"""Most comparisons of characters in a search from the end of a string."""
DIGITS = re.compile(r"\d+")


def number(value: Any) -> int:
    """Return a width or count if it is an integer; else 0, because it can't lengthen a result."""
    return value if isinstance(value, int) else 0


def repeated(left: Any, right: Any) -> int:
    """Return the characters that `left * right` counts for: a repeated string or list, or a number."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        return bits // 3 if bits <= MAX_BITS else MAX_CHARACTERS + 1
    times, value = (left, right) if isinstance(left, int) else (right, left)
    return size(value) * max(0, number(times)) if members_or_text(value) else 0


def members_or_text(value: Any) -> bool:
    """Return whether a value is a string or a list, which `+` and `*` lengthen."""
    return isinstance(value, str | bytes | list | tuple)


def power(left: Any, right: Any) -> int:
    """Return about how many digits the integer `left ** right` will have; 0 if either isn't an integer.

    A number of more than MAX_BITS counts as MAX_CHARACTERS + 1, which the caller refuses.
    """
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right)
        return bits // 3 if bits <= MAX_BITS else MAX_CHARACTERS + 1
    return 0


def printf(template: Any, values: Any) -> int:
    """Return how many characters `template % values` can have at most."""
    if isinstance(template, bytes):
        template = template.decode("latin-1")
    if not isinstance(template, str):
        return 0
    widths, count = printf_widths(template, values)
    if isinstance(values, Mapping):
        longest = max((size(value) for value in values.values()), default=0)
        return len(template) + widths + count * (longest + 400)
    return len(template) + widths + 400 * count + size(values)


def printf_widths(template: str, values: Any) -> tuple[int, int]:
    """Return the sum of all widths and precisions in a `%` template, and the number of its values."""
    arguments = values if isinstance(values, tuple) else (values,)
    star = max((abs(value) for value in arguments if isinstance(value, int)), default=0)
    widths = count = 0
    index = template.find("%")
    while index >= 0:
        index = after_key(template, index + 1)
        count += 1
        digits = ""
        while index < len(template) and template[index] in "-+ #.*0123456789":
            widths += star if template[index] == "*" else 0
            digits += template[index] if template[index].isdigit() else " "
            index += 1
        widths += sum(map(as_width, digits.split()))
        index = template.find("%", index + 1)
    return widths, count


def field_width(specification: str) -> int:
    """Return the sum of width and precision in a format specification, as 14 for `>10.4f`."""
    return sum(map(as_width, DIGITS.findall(specification)))


def as_width(digits: str) -> int:
    """Convert digits to a width; more than 11 digits give MAX_CHARACTERS + 1, which the caller refuses."""
    return int(digits) if len(digits) < 12 else MAX_CHARACTERS + 1


def after_key(template: str, index: int) -> int:
    """Return the index after a key in parentheses, as `(name)`, that begins at `index` in a `%` template.

    Without a key, return `index`; if the key isn't closed, the length of the template.
    """
    if template[index : index + 1] != "(":
        return index
    open_brackets = 0
    for end in range(index, len(template)):
        open_brackets += (template[end] == "(") - (template[end] == ")")
        if not open_brackets:
            return end + 1
    return len(template)


def replaced(text: Any, old: Any, new: Any = "", count: Any = None) -> int:
    """Return how many characters `text.replace(old, new, count)` can have at most."""
    if not isinstance(text, bytes):
        text, old, new = str(text), str(old), str(new)
    occurrences: int = text.count(old)
    occurrences = min(occurrences, count) if isinstance(count, int) and count >= 0 else occurrences
    return len(text) + occurrences * len(new)


def joined(separator: Any, items: Any) -> int:
    """Return how many characters items have when they are joined with a separator."""
    return size(items) + (size(separator) * len(items) if hasattr(items, "__len__") else 0)


def indented(text: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    """Return an upper bound of the characters of a string whose lines are indented by a width or a string."""
    lines = len(str(text).splitlines()) + 1
    return len(str(text)) + lines * (len(width) if isinstance(width, str) else max(0, number(width)) + 1)


def as_json(value: Any, indent: Any = None, separators: Any = None, **options: Any) -> int:
    """Return about how many characters a value has as JSON."""
    length = size(value)
    if separators:
        length += length // NODE * size(separators)
    if indent is not None:
        width = len(indent) if isinstance(indent, str) else max(0, number(indent))
        length += (length // NODE + 1) * (depth(value) + 1) * (width + 1)
    return length


def wrapped(text: Any, *arguments: Any, wrapstring: Any = "", **_: Any) -> int:
    """Return how many characters a string can have at most after the filter `wordwrap`."""
    strings = [wrapstring, *(value for value in arguments if isinstance(value, str))]
    return len(text) * (1 + max(size(value) for value in strings))


def rounded(value: Any, precision: Any = 0, *_: Any, **__: Any) -> int:
    """Return 0, as a rounded number is short; a precision over 1,000 gives MAX_CHARACTERS + 1, too many."""
    return 0 if abs(number(precision)) <= 1000 else MAX_CHARACTERS + 1


def filled(value: Any, length: Any, fill: Any = None) -> int:
    """Return how many characters the filter `batch` adds when it fills up the last batch."""
    return 0 if fill is None else max(0, number(length)) * (NODE + size(fill))


def translated(text: Any, table: Any, *_: Any) -> int:
    """Return how many characters a string can have at most after `translate`."""
    longest = max((size(new) for new in table.values()), default=1) if isinstance(table, Mapping) else 1
    return len(text) * max(1, longest)


def searched(text: Any, pattern: Any = "", *_: Any) -> int:
    """Return the length of a string; MAX_CHARACTERS + 1, to be refused, if a search from its end is slow.

    Python searches fast from the start of a string only.
    """
    work = size(text) * size(pattern) if isinstance(pattern, str | bytes) else 0
    return MAX_CHARACTERS + 1 if work > MAX_SEARCH else len(text)


def split_up(text: Any, separator: Any = None, most: Any = -1, **_: Any) -> int:
    """Return the characters that the result of `split` counts for: its text, and 32 per item."""
    splits: int = len(text) // 2 if separator is None else text.count(separator)
    splits = min(splits, most) if isinstance(most, int) and most >= 0 else splits
    return len(text) + (splits + 1) * NODE


def split_up_backwards(text: Any, separator: Any = None, most: Any = -1, **_: Any) -> int:
    """Return the characters that the result of `rsplit` counts for: its text, and 32 per item.

    If the search from the end is slow, the result exceeds MAX_CHARACTERS and is refused.
    """
    return max(split_up(text, separator, most), searched(text, separator))


def encoded(text: Any, encoding: Any = "utf-8", *_: Any, **__: Any) -> int:
    """Return how many bytes an encoded string can have at most.

    For a long string in a slow encoding, return MAX_CHARACTERS + 1, which is refused.
    """
    fast = str(encoding).lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "latin-1", "utf-16")
    return len(text) * 4 if fast or len(text) <= MAX_SLOW else MAX_CHARACTERS + 1


def padded(text: Any, width: Any = 80, *_: Any) -> int:
    """Return an upper bound of the characters that a string has after it is padded to a width."""
    return size(text) + max(0, number(width))


def formatted(text: Any, *values: Any, **named: Any) -> int:
    """Return how many characters the filter `format` can return at most."""
    return printf(str(text), named or values)


def hexadecimal(data: Any, *_: Any, **__: Any) -> int:
    """Return an upper bound of the characters that bytes have in hexadecimal notation, with separators."""
    length: int = len(data)
    return 3 * length


def lines(text: Any, *_: Any, **__: Any) -> int:
    """Return the characters that the result of `splitlines` counts for: its text, and 32 per item."""
    ends = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029" if isinstance(text, str) else (b"\n", b"\r")
    count: int = sum(text.count(end) for end in ends)
    return size(text) + (1 + count) * NODE


def with_tabs(text: Any, tabsize: Any = 8) -> int:
    """Return how many characters a string can have at most after each tab is replaced by spaces."""
    tab: Any = "\t" if isinstance(text, str) else b"\t"
    count: int = text.count(tab)
    return size(text) + count * max(0, number(tabsize))
