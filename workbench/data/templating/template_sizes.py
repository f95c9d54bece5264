"""How many characters an operator, a filter or a method of a template would make, before it makes them."""

import re
from collections.abc import Mapping
from typing import Any

from workbench.data.templating.render_budget import MAX_BITS, MAX_CHARACTERS, NODE, depth, size

MAX_SLOW = 100_000
"""Characters for filters and encodings that take long for each."""
MAX_SEARCH = 1_000_000_000
"""Comparisons of a search from the end of a text."""
DIGITS = re.compile(r"\d+")


def number(value: Any) -> int:
    """A width or count as it matters here: nothing but whole numbers makes anything long."""
    return value if isinstance(value, int) else 0


def repeated(left: Any, right: Any) -> int:
    """Characters of `left * right`."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        return bits // 3 if bits <= MAX_BITS else MAX_CHARACTERS + 1
    times, value = (left, right) if isinstance(left, int) else (right, left)
    return size(value) * max(0, number(times)) if members_or_text(value) else 0


def members_or_text(value: Any) -> bool:
    """Whether a value is one that `+` and `*` make longer."""
    return isinstance(value, str | bytes | list | tuple)


def power(left: Any, right: Any) -> int:
    """Characters of `left ** right`."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right)
        return bits // 3 if bits <= MAX_BITS else MAX_CHARACTERS + 1
    return 0


def printf(template: Any, values: Any) -> int:
    """Characters of `template % values`."""
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
    """All widths and precisions of a printf template added up, and how many values it takes."""
    arguments = values if isinstance(values, tuple) else (values,)
    star = max((abs(value) for value in arguments if isinstance(value, int)), default=0)
    widths = count = 0
    place = template.find("%")
    while place >= 0:
        place = behind_key(template, place + 1)
        count += 1
        digits = ""
        while place < len(template) and template[place] in "-+ #.*0123456789":
            widths += star if template[place] == "*" else 0
            digits += template[place] if template[place].isdigit() else " "
            place += 1
        widths += sum(map(as_width, digits.split()))
        place = template.find("%", place + 1)
    return widths, count


def field_width(specification: str) -> int:
    """All numbers of a field of `str.format` added up: its width, its precision."""
    return sum(map(as_width, DIGITS.findall(specification)))


def as_width(digits: str) -> int:
    """A width out of digits, of which there may be too many for a number."""
    return int(digits) if len(digits) < 12 else MAX_CHARACTERS + 1


def behind_key(template: str, place: int) -> int:
    """The place behind a key in brackets, which may hold brackets itself."""
    if template[place : place + 1] != "(":
        return place
    open_brackets = 0
    for index in range(place, len(template)):
        open_brackets += (template[index] == "(") - (template[index] == ")")
        if not open_brackets:
            return index + 1
    return len(template)


def replaced(text: Any, old: Any, new: Any = "", count: Any = None) -> int:
    """Characters of a text after a replacement."""
    if not isinstance(text, bytes):
        text, old, new = str(text), str(old), str(new)
    found: int = text.count(old)
    found = min(found, count) if isinstance(count, int) and count >= 0 else found
    return len(text) + found * len(new)


def joined(separator: Any, items: Any) -> int:
    """Characters of a list joined."""
    return size(items) + (size(separator) * len(items) if hasattr(items, "__len__") else 0)


def indented(text: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    """Characters of a text whose lines are indented."""
    lines = len(str(text).splitlines()) + 1
    return len(str(text)) + lines * (len(width) if isinstance(width, str) else max(0, number(width)) + 1)


def as_json(value: Any, indent: Any = None, separators: Any = None, **options: Any) -> int:
    """Characters of a value as JSON text."""
    length = size(value)
    if separators:
        length += length // NODE * size(separators)
    if indent is not None:
        width = len(indent) if isinstance(indent, str) else max(0, number(indent))
        length += (length // NODE + 1) * (depth(value) + 1) * (width + 1)
    return length


def wrapped(text: Any, *arguments: Any, wrapstring: Any = "", **_: Any) -> int:
    """Characters of a wrapped text."""
    strings = [wrapstring, *(value for value in arguments if isinstance(value, str))]
    return len(text) * (1 + max(size(value) for value in strings))


def rounded(value: Any, precision: Any = 0, *_: Any, **__: Any) -> int:
    """A number is short, unless its precision isn't."""
    return 0 if abs(number(precision)) <= 1000 else MAX_CHARACTERS + 1


def filled(value: Any, length: Any, fill: Any = None) -> int:
    """Characters of a last batch that is filled up."""
    return 0 if fill is None else max(0, number(length)) * (NODE + size(fill))


def translated(text: Any, table: Any, *_: Any) -> int:
    """Characters of a text after `translate`."""
    longest = max((size(new) for new in table.values()), default=1) if isinstance(table, Mapping) else 1
    return len(text) * max(1, longest)


def searched(text: Any, wanted: Any = "", *_: Any) -> int:
    """Refuse a search from the end that would take long: only searches from the start have a fast way."""
    work = size(text) * size(wanted) if isinstance(wanted, str | bytes) else 0
    return MAX_CHARACTERS + 1 if work > MAX_SEARCH else len(text)


def split_up(text: Any, separator: Any = None, most: Any = -1, **_: Any) -> int:
    """Characters of the list that a text is split into."""
    parts: int = len(text) // 2 if separator is None else text.count(separator)
    parts = min(parts, most) if isinstance(most, int) and most >= 0 else parts
    return len(text) + (parts + 1) * NODE


def split_up_backwards(text: Any, separator: Any = None, most: Any = -1, **_: Any) -> int:
    """Characters of the list that a text is split into, from its end."""
    return max(split_up(text, separator, most), searched(text, separator))


def encoded(text: Any, encoding: Any = "utf-8", *_: Any, **__: Any) -> int:
    """Bytes of a text; of long texts only in encodings that are fast."""
    fast = str(encoding).lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "latin-1", "utf-16")
    return len(text) * 4 if fast or len(text) <= MAX_SLOW else MAX_CHARACTERS + 1


def padded(text: Any, width: Any = 80, *_: Any) -> int:
    """Characters of a text filled up to a width."""
    return size(text) + max(0, number(width))


def formatted(text: Any, *values: Any, **named: Any) -> int:
    """Characters of the filter `format`."""
    return printf(str(text), named or values)


def hexadecimal(data: Any, *_: Any, **__: Any) -> int:
    """Characters of bytes written as hexadecimal numbers."""
    length: int = len(data)
    return 3 * length


def lines(text: Any, *_: Any, **__: Any) -> int:
    """Characters of the list of a text's lines."""
    ends = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029" if isinstance(text, str) else (b"\n", b"\r")
    count: int = sum(text.count(end) for end in ends)
    return size(text) + (1 + count) * NODE


def with_tabs(text: Any, tabsize: Any = 8) -> int:
    """Characters of a text whose tabs become spaces."""
    tab: Any = "\t" if isinstance(text, str) else b"\t"
    count: int = text.count(tab)
    return size(text) + count * max(0, number(tabsize))
