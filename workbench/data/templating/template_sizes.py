"""Estimates how long the result of an operator, filter or method will be, before it is computed."""

import re
from collections.abc import Mapping
from typing import Any

from workbench.data.templating.render_budget import MAX_BITS, MAX_CHARACTERS, NODE, depth, size

MAX_SLOW = 100_000
"""Most characters for filters and encodings that are slow per character."""
MAX_SEARCH = 1_000_000_000
"""Most comparisons of a search from the end of a string."""
DIGITS = re.compile(r"\d+")


def number(value: Any) -> int:
    """Return a width or count if it is an integer, else 0: other types cannot make a result long."""
    return value if isinstance(value, int) else 0


def repeated(left: Any, right: Any) -> int:
    """Return the size of `left * right`."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        return bits // 3 if bits <= MAX_BITS else MAX_CHARACTERS + 1
    times, value = (left, right) if isinstance(left, int) else (right, left)
    return size(value) * max(0, number(times)) if members_or_text(value) else 0


def members_or_text(value: Any) -> bool:
    """Return whether `+` and `*` lengthen a value of this type."""
    return isinstance(value, str | bytes | list | tuple)


def power(left: Any, right: Any) -> int:
    """Return the size of `left ** right`."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right)
        return bits // 3 if bits <= MAX_BITS else MAX_CHARACTERS + 1
    return 0


def printf(template: Any, values: Any) -> int:
    """Return the size of `template % values`."""
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
    """Return the sum of all widths and precisions of a printf template, and the number of its values."""
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
    """Return the sum of the numbers in a format specification: width and precision."""
    return sum(map(as_width, DIGITS.findall(specification)))


def as_width(digits: str) -> int:
    """Convert digits to a width; a number with more than 11 digits is over every limit."""
    return int(digits) if len(digits) < 12 else MAX_CHARACTERS + 1


def after_key(template: str, index: int) -> int:
    """Return the index after a key in parentheses, which may be nested."""
    if template[index : index + 1] != "(":
        return index
    open_brackets = 0
    for end in range(index, len(template)):
        open_brackets += (template[end] == "(") - (template[end] == ")")
        if not open_brackets:
            return end + 1
    return len(template)


def replaced(text: Any, old: Any, new: Any = "", count: Any = None) -> int:
    """Return the size of a string after `replace`."""
    if not isinstance(text, bytes):
        text, old, new = str(text), str(old), str(new)
    occurrences: int = text.count(old)
    occurrences = min(occurrences, count) if isinstance(count, int) and count >= 0 else occurrences
    return len(text) + occurrences * len(new)


def joined(separator: Any, items: Any) -> int:
    """Return the size of joined items."""
    return size(items) + (size(separator) * len(items) if hasattr(items, "__len__") else 0)


def indented(text: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    """Return the size of a string whose lines are indented."""
    lines = len(str(text).splitlines()) + 1
    return len(str(text)) + lines * (len(width) if isinstance(width, str) else max(0, number(width)) + 1)


def as_json(value: Any, indent: Any = None, separators: Any = None, **options: Any) -> int:
    """Return the size of a value as JSON."""
    length = size(value)
    if separators:
        length += length // NODE * size(separators)
    if indent is not None:
        width = len(indent) if isinstance(indent, str) else max(0, number(indent))
        length += (length // NODE + 1) * (depth(value) + 1) * (width + 1)
    return length


def wrapped(text: Any, *arguments: Any, wrapstring: Any = "", **_: Any) -> int:
    """Return the size of a string after `wordwrap`."""
    strings = [wrapstring, *(value for value in arguments if isinstance(value, str))]
    return len(text) * (1 + max(size(value) for value in strings))


def rounded(value: Any, precision: Any = 0, *_: Any, **__: Any) -> int:
    """Return the size of a rounded number: 0, unless the precision is large."""
    return 0 if abs(number(precision)) <= 1000 else MAX_CHARACTERS + 1


def filled(value: Any, length: Any, fill: Any = None) -> int:
    """Return the size of the padding of the last batch."""
    return 0 if fill is None else max(0, number(length)) * (NODE + size(fill))


def translated(text: Any, table: Any, *_: Any) -> int:
    """Return the size of a string after `translate`."""
    longest = max((size(new) for new in table.values()), default=1) if isinstance(table, Mapping) else 1
    return len(text) * max(1, longest)


def searched(text: Any, pattern: Any = "", *_: Any) -> int:
    """Return the size of the result, or more than is allowed if the search from the end would be slow.

    Python searches fast from the start of a string only.
    """
    work = size(text) * size(pattern) if isinstance(pattern, str | bytes) else 0
    return MAX_CHARACTERS + 1 if work > MAX_SEARCH else len(text)


def split_up(text: Any, separator: Any = None, most: Any = -1, **_: Any) -> int:
    """Return the size of the list that `split` returns."""
    splits: int = len(text) // 2 if separator is None else text.count(separator)
    splits = min(splits, most) if isinstance(most, int) and most >= 0 else splits
    return len(text) + (splits + 1) * NODE


def split_up_backwards(text: Any, separator: Any = None, most: Any = -1, **_: Any) -> int:
    """Return the size of the list that `rsplit` returns."""
    return max(split_up(text, separator, most), searched(text, separator))


def encoded(text: Any, encoding: Any = "utf-8", *_: Any, **__: Any) -> int:
    """Return the size of an encoded string; a long one is refused in slow encodings."""
    fast = str(encoding).lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "latin-1", "utf-16")
    return len(text) * 4 if fast or len(text) <= MAX_SLOW else MAX_CHARACTERS + 1


def padded(text: Any, width: Any = 80, *_: Any) -> int:
    """Return the size of a string padded to a width."""
    return size(text) + max(0, number(width))


def formatted(text: Any, *values: Any, **named: Any) -> int:
    """Return the size of the result of the filter `format`."""
    return printf(str(text), named or values)


def hexadecimal(data: Any, *_: Any, **__: Any) -> int:
    """Return the size of bytes in hexadecimal notation."""
    length: int = len(data)
    return 3 * length


def lines(text: Any, *_: Any, **__: Any) -> int:
    """Return the size of the list that `splitlines` returns."""
    ends = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029" if isinstance(text, str) else (b"\n", b"\r")
    count: int = sum(text.count(end) for end in ends)
    return size(text) + (1 + count) * NODE


def with_tabs(text: Any, tabsize: Any = 8) -> int:
    """Return the size of a string whose tabs become spaces."""
    tab: Any = "\t" if isinstance(text, str) else b"\t"
    count: int = text.count(tab)
    return size(text) + count * max(0, number(tabsize))
