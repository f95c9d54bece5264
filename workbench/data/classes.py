"""Cleans and compares the names of classes, and reads lists of classes from files."""

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from workbench.data.notices import say_once
from workbench.data.readers.row import Row
from workbench.data.readers.text_lines import numbered_lines, whole_text
from workbench.errors import DataError

UNLABELLED = ("-1", "-100", "-")
"""Marks of rows without a class: in GLUE, in label masks, in SNLI and CMNLI."""

ORDINARY = " \t\n"
"""White space that is removed from both ends of a class name without a note to the user."""

NUMBERED = re.compile(r"(\d+)\s*[-–:：.、)）\t]\s*(\S.*)")
"""Matches a class with its number in front, as in `1-World`."""


@dataclass(frozen=True)
class ClassList:
    """The classes that a file lists."""

    names: list[str]
    """Class names without their numbers, in the order of the file."""
    by_number: dict[str, str]
    """Number as written in the file, such as "01" -> class name; empty if the file has no numbers."""


def is_invisible(character: str) -> bool:
    """Return whether a character is invisible: white space, a control or format character, or a filler."""
    return character in "\u034f\u115f\u1160\u2800\u3164\uffa0" or unicodedata.category(character) in (
        *("Cc", "Cf", "Zl", "Zp", "Zs"),
    )


def clean_name(name: str) -> str:
    """Return a class name without the invisible characters, white space included, at its ends."""
    start, end = 0, len(name)
    while start < end and is_invisible(name[start]):
        start += 1
    while end > start and is_invisible(name[end - 1]):
        end -= 1
    return name[start:end]


def has_hidden_ends(name: str) -> bool:
    """Return whether a class name has, at an end, invisible characters other than space, tab and newline."""
    return clean_name(name) != name.strip(ORDINARY)


def say_look_alikes(names: Sequence[str]) -> None:
    """Log, once per process, each group of classes whose names are equal after `looks` normalizes them."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[looks(name)].append(name)
    for group in groups.values():
        if len(group) > 1:
            names_alike = ", ".join(map(ascii_if_needed, group))
            say_once(f"classes that look alike are treated as different classes: {names_alike}")


def looks(name: str) -> str:
    """Return the normalized form of a class name, which is equal for names that look alike.

    Width and case are normalized, invisible characters removed, and runs of white space become one space. A
    number becomes its value: `1` and `1.0` both become "1.0".
    """
    visible = "".join(
        " " if character.isspace() else character
        for character in unicodedata.normalize("NFKC", name)
        if character.isspace() or not is_invisible(character)
    )
    visible = " ".join(visible.split()).casefold()
    return repr(float(visible)) if re.fullmatch(r"[-+]?\d{1,15}(\.\d{1,15})?", visible) else visible


def ascii_if_needed(name: str) -> str:
    """Return a class name in quotes for a message, with escapes if it contains invisible characters."""
    has_invisible = any(is_invisible(character) and character != " " for character in name)
    return ascii(name) if has_invisible else repr(name)


@cache
def class_list(path: Path, key: str) -> ClassList:
    """Read a list of classes from a file: one per line, one line separated by commas, or a JSON list.

    Numbers in front (`1-World`) are split off if all classes have one and the numbers count up by one; else
    they are part of the names. The result is cached for the process, and its classes are logged.

    Args:
        path: The file.
        key: Configuration key, for messages.

    Raises:
        DataError: The file is missing, is JSON but not a list of strings, has fewer than two classes, or has
            a class twice.
    """
    if not path.is_file():
        raise DataError(f"{key}: no such file, {str(path)!r}")
    entries = [clean_name(entry) for entry in listed_entries(path)]
    entries = [entry for entry in entries if entry]
    matches = [NUMBERED.fullmatch(entry) for entry in entries]
    numbers = [match[1] for match in matches if match]
    names = [clean_name(match[2]) for match in matches if match]
    first = int(numbers[0]) if numbers else 0
    counts_up = [int(number) for number in numbers] == list(range(first, first + len(entries)))
    is_numbered = len(numbers) == len(entries) == len(set(names)) and counts_up
    classes = (
        ClassList(names, dict(zip(numbers, names, strict=True))) if is_numbered else ClassList(entries, {})
    )
    duplicate = next((name for name in classes.names if classes.names.count(name) > 1), None)
    if duplicate is not None:
        raise DataError(f"{path}: the class {duplicate!r} is listed twice")
    if len(classes.names) < 2:
        raise DataError(f"{path}: {len(classes.names)} classes (at least 2: one per line, or between commas)")
    numbered = f", numbered from {first} in the file" if is_numbered else ""
    say_once(f"{key}: {len(classes.names)} classes{numbered}: {', '.join(classes.names[:20])}")
    return classes


def is_unlabelled(row: Row, class_names: Sequence[str]) -> bool:
    """Return whether a row has no class: its label is missing, null or blank, or a mark of UNLABELLED.

    A mark (such as `-1`) that is in `class_names` is a class.
    """
    label = row.values.get("label")
    name = "" if label is None else clean_name(str(label))
    return not name or (name in UNLABELLED and name not in class_names)


def with_named_class(row: Row, classes: ClassList) -> Row:
    """Return a copy of a row with the class name in place of the class number in its column `label`.

    The row itself is returned if its label is not among the numbers of `classes`.
    """
    label = row.values.get("label")
    name = None if isinstance(label, bool) or label is None else classes.by_number.get(clean_name(str(label)))
    return row if name is None else replace(row, values={**row.values, "label": name})


def listed_entries(path: Path) -> list[str]:
    """Read the entries of a file that lists classes, uncleaned and with the numbers in front of them.

    Entries are the lines that aren't blank, the items of a single line between commas or tabs, or the strings
    of a JSON list.

    Raises:
        DataError: The file begins like JSON, but is not a list of strings.
    """
    lines = [line for _, line in numbered_lines(path) if line.strip()]
    if lines and lines[0].lstrip().startswith(("[", "{")):
        try:
            names = json.loads(whole_text(path))
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(
                f"{path}: not a list of classes (one per line, between commas, or a JSON list of names)"
            )
        return names
    return re.split(r"[,，、\t]", lines[0]) if len(lines) == 1 else lines
