"""Reads rows from JSON and JSONL: an array, one object, or a sequence of values over one or several lines."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from workbench.config.names import COLUMNS
from workbench.data.notices import say_once
from workbench.data.readers.layout import Layout
from workbench.data.readers.row import Row
from workbench.data.readers.text_lines import LONGEST_LINE_BYTES, numbered_lines
from workbench.errors import DataError
from workbench.files import parse_json

DEEPEST = 100
"""Deepest nesting of lists and objects that is read."""

HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Matches the escape of a UTF-16 surrogate.

A character outside the BMP is written as two of them in a row.
"""

TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')
"""Matches a string (brackets inside don't count) or a bracket."""

LISTS_OF_ROWS = (
    *("data", "rows", "examples", "items", "samples", "instances", "records", "entries", "dataset"),
    "questions",
)
"""Names that the list of rows may have in a file that is one object, as in `{"data": [...]}`."""


@dataclass(frozen=True)
class Value:
    """A parsed top-level value of a JSON file."""

    value: Any
    line: int
    """Line of the file on which it begins."""
    has_half: bool
    """Whether a string in it may contain a lone surrogate, which is half a character."""
    is_line: bool
    """Whether it is written on a single line of the file."""


def json_rows(path: Path, layout: Layout) -> Iterator[Row]:
    """Yield the rows of a JSON or JSONL file; either suffix may have either content.

    The rows are the objects in the file's only array, or in the list of rows of its only object
    (`list_of_rows`), else the file's top-level objects. `checked_object` says what else can be a row.

    Raises:
        DataError: The file can't be read, the JSON is malformed, or a row is not an object.
    """
    values = top_level_values(path)
    for first in values:
        if isinstance(first.value, list):
            following = list(values)  # an array is the whole file; in JSONL of lists more values follow
            if not following:
                yield from array_rows(first, path, layout)
                return
            values = iter(following)
        elif (rows := list_of_rows(first, path, layout)) is not None:
            second = next(values, None)
            if second is None:
                say_once(f"{path}: its rows are taken from the list {rows!r} of the only object in it")
                yield from array_rows(replace(first, value=first.value[rows]), path, layout)
                return
            values = chain([second], values)
        for value in chain([first], values):
            where = f"{path}:{value.line}"
            yield Row(checked_object(value.value, where, value.has_half, layout), where)


def array_rows(array: Value, path: Path, layout: Layout) -> Iterator[Row]:
    """Yield the rows of an array of objects; `Row.where` numbers them from 1.

    Raises:
        DataError: An item is not an object, as `checked_object` says.
    """
    for number, value in enumerate(array.value, start=1):
        where = f"{path}: row {number}"
        yield Row(checked_object(value, where, array.has_half, layout), where)


def list_of_rows(first: Value, path: Path, layout: Layout) -> str | None:
    """Return the name of the list of rows in the file's first value; None: the value is a row itself.

    The value must be an object with exactly one list of objects, which has a name from LISTS_OF_ROWS, and no
    column of a known format. With `layout.unfold`, and on a single line of a .jsonl file, it is always a row.
    """
    value = first.value
    if not isinstance(value, dict) or layout.unfold or value.keys() & set(COLUMNS):
        return None
    if first.is_line and path.suffix.lower() == ".jsonl":
        return None
    lists = [name for name, inner in value.items() if is_list_of_objects(inner)]
    return lists[0] if len(lists) == 1 and lists[0] in LISTS_OF_ROWS else None


def is_list_of_objects(value: Any) -> bool:
    """Return whether a value is a non-empty list of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(inner, dict) for inner in value)


def top_level_values(path: Path) -> Iterator[Value]:
    """Yield the top-level values of a JSON file, which are separated by line breaks.

    A value can span several lines. Only a file that is an array, or the first line, may exceed the limit of
    LONGEST_LINE_BYTES for a line or value.

    Raises:
        DataError: The file can't be read, or the JSON is malformed.
    """
    open_lines: list[str] = []
    depth = size = start = 0
    for number, line in numbered_lines(path, None if is_array(path) else LONGEST_LINE_BYTES, free_lines=1):
        if not open_lines:
            if not line.strip():
                continue
            value = parsed(line, path, number, may_go_on=True)
            if value is not None:
                yield value
                continue
            start, depth, size = number, 0, 0
        depth, size = depth + depth_change(line), size + len(line)
        open_lines.append(line)
        if start > 1 and size > LONGEST_LINE_BYTES:
            most = LONGEST_LINE_BYTES // 2**20
            raise DataError(f"{path}:{start}: a value begins here that is not closed after {most} MiB")
        if depth <= 0:
            yield closed("".join(open_lines), path, start)
            open_lines = []
    if open_lines:
        yield closed("".join(open_lines), path, start)


def is_array(path: Path) -> bool:
    """Return whether a file's first line that isn't blank begins with `[`, white space aside.

    Raises:
        DataError: The file can't be read.
    """
    first = next((line for _, line in numbered_lines(path, None) if line.strip()), "")
    return first.lstrip().startswith("[")


def depth_change(line: str) -> int:
    """Return by how much a line changes the nesting depth: the brackets it opens minus those it closes."""
    brackets = (match[0] for match in TOKEN.finditer(line) if match[0][0] != '"')
    return sum(1 if bracket in "[{" else -1 for bracket in brackets)


def closed(text: str, path: Path, line: int) -> Value:
    """Parse `text`, all lines of one value that begins on line `line` of the file.

    Raises:
        DataError: As in `parsed`.
    """
    value = parsed(text, path, line)
    assert value is not None
    return value


class DoubledNameError(ValueError):
    """An object has the same name twice; the json module would silently keep the last value."""


def with_names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from name-value pairs, for the json module's `object_pairs_hook`.

    Raises:
        DoubledNameError: Two values have the same name.
    """
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise DoubledNameError(repr(next(name for name in names if names.count(name) > 1))[:80])
    return value


def parsed(text: str, path: Path, line: int, *, may_go_on: bool = False) -> Value | None:
    """Parse a JSON text that begins on line `line` of a file.

    With `may_go_on`, return None if the only error is that the text ends too early: the next line may
    complete it.

    Raises:
        DataError: The JSON is malformed or too deep, a number has too many digits, or a name occurs twice.
    """
    text = text.rstrip()
    try:
        value = json.loads(text, object_pairs_hook=with_names_once)
    except DoubledNameError as error:
        raise DataError(f"{path}:{line}: an object has two values called {error} (keep one)") from error
    except json.JSONDecodeError as error:
        if may_go_on and error.pos >= len(text):
            return None
        where = f"{path}:{line + error.lineno - 1}"
        start = f" (the value begins on line {line})" if error.lineno > 1 else ""
        raise DataError(f"{where}: malformed JSON, {error.msg} at column {error.colno}{start}") from error
    except ValueError as error:
        most = sys.get_int_max_str_digits()
        number_line = line + text.count("\n", 0, start_of_longest_number(text))
        raise DataError(f"{path}:{number_line}: a number of more than {most:,} digits") from error
    except RecursionError as error:
        raise DataError(f"{path}:{line}: lists or objects are nested too deeply") from error
    if text.count("[") + text.count("{") > DEEPEST and depth_of(value) > DEEPEST:
        raise DataError(f"{path}:{line}: lists or objects are nested too deeply (at most {DEEPEST} levels)")
    return Value(value, line, HALF.search(text) is not None, is_line="\n" not in text)


def json_text(text: str) -> Any:
    """Parse the JSON text in a column of a row.

    Raises:
        ValueError: The JSON is malformed or too deep, or a number has too many digits.
    """
    value = parse_json(text)
    if depth_of(value) > DEEPEST:
        raise ValueError(f"nested too deeply (at most {DEEPEST} levels)")
    return value


def depth_of(value: Any) -> int:
    """Return the nesting depth of lists and objects, at most DEEPEST + 1."""
    level: Iterable[Any] = [value]
    for depth in range(DEEPEST + 1):
        level = [inner for outer in level for inner in inner_values(outer)]
        if not level:
            return depth + isinstance(value, dict | list)
    return DEEPEST + 1


def inner_values(value: Any) -> Iterable[Any]:
    """Return those items of a list or object that are lists or objects themselves."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in inner if isinstance(child, dict | list)]


def start_of_longest_number(text: str) -> int:
    """Return the index in a text at which its longest run of digits begins; there must be one."""
    return max(re.finditer(r"\d+", text), key=lambda digits: len(digits[0])).start()


def checked_object(value: Any, where: str, has_half: bool, layout: Layout) -> dict[str, Any]:
    """Check that a parsed value is an object, and return this object as a row's columns.

    A list becomes an object if the layout's `header` has as many column names. A string becomes the column
    `prompt` if the layout's `text_lines` is set.

    Args:
        value: The parsed value.
        where: File and line, for messages.
        has_half: Whether to look for lone surrogates in its strings.
        layout: Has the column names for rows that are lists.

    Raises:
        DataError: The value is not an object, or a string contains a lone surrogate.
    """
    if isinstance(value, list) and layout.header and len(value) == len(layout.header):
        value = dict(zip(layout.header, value, strict=True))
    if isinstance(value, str) and layout.text_lines:
        value = {"prompt": value}
    if not isinstance(value, dict):
        shown = json.dumps(value, ensure_ascii=True)[:60]
        raise DataError(f"{where}: a row must be a JSON object, not {shown}")
    try:
        if has_half:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise DataError(f"{where}: {half!a} is half a character, the other half is missing") from error
    return value
