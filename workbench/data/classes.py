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
    by_number: dict[str, str]
    """Number as written in the file -> name; empty if the file has no numbers."""


def is_invisible(character: str) -> bool:
    """Return whether a character is invisible: white space, a control or format character, or a filler."""
    return character in "\u034f\u115f\u1160\u2800\u3164\uffa0" or unicodedata.category(character) in (
        *("Cc", "Cf", "Zl", "Zp", "Zs"),
    )


def clean_name(name: str) -> str:
    """Remove invisible characters (white space, too) from both ends of a class name."""
    start, end = 0, len(name)
    while start < end and is_invisible(name[start]):
        start += 1
    while end > start and is_invisible(name[end - 1]):
        end -= 1
    return name[start:end]


def has_hidden_ends(name: str) -> bool:
    """Return whether a class name has invisible characters at an end, besides ordinary white space."""
    return clean_name(name) != name.strip(ORDINARY)


def say_look_alikes(names: Sequence[str]) -> None:
    """Log the groups of classes whose names differ only in case, width or invisible characters."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[looks(name)].append(name)
    for group in groups.values():
        if len(group) > 1:
            names_alike = ", ".join(map(ascii_if_needed, group))
            say_once(f"classes that look alike are treated as different classes: {names_alike}")


def looks(name: str) -> str:
    """Return a normalized class name, which is equal for names that look alike.

    Width and case are normalized and invisible characters removed; numbers are compared by value: `1` is
    `1.0`.
    """
    visible = "".join(
        " " if character.isspace() else character
        for character in unicodedata.normalize("NFKC", name)
        if character.isspace() or not is_invisible(character)
    )
    visible = " ".join(visible.split()).casefold()
    return repr(float(visible)) if re.fullmatch(r"[-+]?\d{1,15}(\.\d{1,15})?", visible) else visible


def ascii_if_needed(name: str) -> str:
    """Quote a class name for a message, with escapes if it contains invisible characters."""
    has_invisible = any(is_invisible(character) and character != " " for character in name)
    return ascii(name) if has_invisible else repr(name)


@cache
def class_list(path: Path, key: str) -> ClassList:
    """Read a list of classes from a file: one per line, one line separated by commas, or a JSON list.

    Numbers in front (`1-World`) are read as numbers of the classes if all classes have one and they count up.

    Args:
        path: The file.
        key: Configuration key, for error messages.

    Raises:
        DataError: The file is missing, has fewer than two classes, or has a class twice.
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
    """Return whether a row has no class: its label is null, empty, or a mark (`-1`) that isn't a class."""
    label = row.values.get("label")
    name = "" if label is None else clean_name(str(label))
    return not name or (name in UNLABELLED and name not in class_names)


def with_named_class(row: Row, classes: ClassList) -> Row:
    """Replace a row's class number by the name, if the file that lists the classes has this number."""
    label = row.values.get("label")
    name = None if isinstance(label, bool) or label is None else classes.by_number.get(clean_name(str(label)))
    return row if name is None else replace(row, values={**row.values, "label": name})


def listed_entries(path: Path) -> list[str]:
    """Read the entries of a file that lists classes: lines, the parts of a single line, or a JSON list.

    Raises:
        DataError: The file is JSON, but not a list of names.
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
