"""Rows of JSON files: an array, one object, or values one after the other, each on a line or over several."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from workbench.config.data import COLUMNS
from workbench.data.notices import say_once
from workbench.data.readers.layout import Layout
from workbench.data.readers.row import Row
from workbench.data.readers.text_lines import LONGEST_LINE_BYTES, numbered_lines
from workbench.errors import DataError
from workbench.files import parse_json

DEEPEST = 100
"""Lists and objects within each other; no data set needs as many."""

HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half a character, as JSON escapes it; whole ones are two of them in a row."""

TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')
"""Texts, whose brackets don't count, and brackets."""

LISTS_OF_ROWS = (
    *("data", "rows", "examples", "items", "samples", "instances", "records", "entries", "dataset"),
    "questions",
)
"""Names under which a file that is one object keeps its rows."""


@dataclass(frozen=True)
class Value:
    """A value at the top level of a file."""

    value: Any
    line: int
    """Where it begins."""
    has_half: bool
    """Whether half a character may be in one of its texts."""
    is_line: bool
    """Whether it stands on a single line."""


def json_rows(path: Path, layout: Layout) -> Iterator[Row]:
    """The objects of a JSON or JSONL file, whichever of the two its name says.

    Raises:
        DataError: Malformed JSON, or a row that is not an object.
    """
    values = top_level_values(path)
    for first in values:
        if isinstance(first.value, list):
            others = list(values)  # an array ends the file; JSON lines of lists go on
            if not others:
                yield from array_rows(first, path, layout)
                return
            values = iter(others)
        elif (rows := list_of_rows(first, path, layout)) is not None:
            other = next(values, None)
            if other is None:
                say_once(f"{path}: its rows are taken from the list {rows!r} of the only object in it")
                yield from array_rows(replace(first, value=first.value[rows]), path, layout)
                return
            values = chain([other], values)
        for value in chain([first], values):
            where = f"{path}:{value.line}"
            yield Row(checked_object(value.value, where, value.has_half, layout), where)


def array_rows(array: Value, path: Path, layout: Layout) -> Iterator[Row]:
    """The objects of an array, each known by its number."""
    for number, value in enumerate(array.value, start=1):
        where = f"{path}: row {number}"
        yield Row(checked_object(value, where, array.has_half, layout), where)


def list_of_rows(first: Value, path: Path, layout: Layout) -> str | None:
    """The name of the list that holds the rows of a file which is one object; None: it is a row itself.

    That is clear where the object has a single list of objects, under a name that means rows, and no column
    of a known format beside it. `unfold` says it otherwise.
    """
    value = first.value
    if not isinstance(value, dict) or layout.unfold or value.keys() & set(COLUMNS):
        return None
    if first.is_line and path.suffix.lower() == ".jsonl":
        return None
    lists = [name for name, inner in value.items() if is_list_of_objects(inner)]
    return lists[0] if len(lists) == 1 and lists[0] in LISTS_OF_ROWS else None


def is_list_of_objects(value: Any) -> bool:
    """Whether a value is a list that holds objects and nothing else."""
    return isinstance(value, list) and bool(value) and all(isinstance(inner, dict) for inner in value)


def top_level_values(path: Path) -> Iterator[Value]:
    """The values of a file one after the other, white space between them.

    A value may go over several lines. Only an array, or the first line, may be longer than other lines may.
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
    """Whether the file begins with a list."""
    first = next((line for _, line in numbered_lines(path, None) if line.strip()), "")
    return first.lstrip().startswith("[")


def depth_change(line: str) -> int:
    """How many more lists and objects a line opens than it closes."""
    brackets = (found[0] for found in TOKEN.finditer(line) if found[0][0] != '"')
    return sum(1 if bracket in "[{" else -1 for bracket in brackets)


def closed(text: str, path: Path, line: int) -> Value:
    """The value of lines that close all lists and objects that they open, or end the file."""
    value = parsed(text, path, line)
    assert value is not None
    return value


class DoubledNameError(ValueError):
    """A name that an object has twice; the JSON module would keep the last value in silence."""


def with_names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the JSON module.

    Raises:
        DoubledNameError: Two of its values have the same name.
    """
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise DoubledNameError(repr(next(name for name in names if names.count(name) > 1))[:80])
    return value


def parsed(text: str, path: Path, line: int, *, may_go_on: bool = False) -> Value | None:
    """The JSON value of a text that begins on line `line` of the file.

    With `may_go_on`, None where nothing is wrong but that the text ends too early.

    Raises:
        DataError: It is malformed, too deep, has a number with too many digits or a name twice in an object.
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
        begun = f" (the value begins on line {line})" if error.lineno > 1 else ""
        raise DataError(f"{where}: malformed JSON, {error.msg} at column {error.colno}{begun}") from error
    except ValueError as error:
        most = sys.get_int_max_str_digits()
        number_line = line + text.count("\n", 0, longest_number(text))
        raise DataError(f"{path}:{number_line}: a number of more than {most:,} digits") from error
    except RecursionError as error:
        raise DataError(f"{path}:{line}: lists or objects too deep in each other") from error
    if text.count("[") + text.count("{") > DEEPEST and depth_of(value) > DEEPEST:
        raise DataError(f"{path}:{line}: lists or objects too deep in each other (at most {DEEPEST} levels)")
    return Value(value, line, HALF.search(text) is not None, is_line="\n" not in text)


def json_text(text: str) -> Any:
    """The value of a JSON text that stands in a column.

    Raises:
        ValueError: It is malformed, too deep, or has a number with too many digits.
    """
    value = parse_json(text)
    if depth_of(value) > DEEPEST:
        raise ValueError(f"nested too deeply (at most {DEEPEST} levels)")
    return value


def depth_of(value: Any) -> int:
    """How many lists and objects stand within each other, up to one more than DEEPEST."""
    level: Iterable[Any] = [value]
    for depth in range(DEEPEST + 1):
        level = [inner for outer in level for inner in inner_values(outer)]
        if not level:
            return depth + isinstance(value, dict | list)
    return DEEPEST + 1


def inner_values(value: Any) -> Iterable[Any]:
    """The lists and objects directly within a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in inner if isinstance(each, dict | list)]


def longest_number(text: str) -> int:
    """Where the longest number begins."""
    return max(re.finditer(r"\d+", text), key=lambda digits: len(digits[0])).start()


def checked_object(value: Any, where: str, has_half: bool, layout: Layout) -> dict[str, Any]:
    """A row's columns; a list gets the names that the layout gives.

    Args:
        value: What stands in the file.
        where: Its place.
        has_half: Whether to look for half characters in its texts.
        layout: Names the columns of rows that are lists.

    Raises:
        DataError: No object, or half a character.
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
