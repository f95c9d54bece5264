"""Names of classes: what is cleaned from them, told apart, or refused, and lists of them in files."""

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
"""How data sets mark a row without a class: GLUE, label masks, SNLI and CMNLI."""

ORDINARY = " \t\n"
"""White space that tables and typing leave around a name, which nobody needs to hear of."""

NUMBERED = re.compile(r"(\d+)\s*[-–:：.、)）\t]\s*(\S.*)")
"""A class with its number in front, as in `1-World`."""


@dataclass(frozen=True)
class ClassList:
    """The classes that a file lists."""

    names: list[str]
    by_number: dict[str, str]
    """Number as the file writes it -> name; empty where it has none."""


def is_invisible(character: str) -> bool:
    """Whether a character shows nothing: white space, control and format characters, fillers."""
    return character in "\u034f\u115f\u1160\u2800\u3164\uffa0" or unicodedata.category(character) in (
        *("Cc", "Cf", "Zl", "Zp", "Zs"),
    )


def clean_name(name: str) -> str:
    """The name of a class without invisible characters at its ends."""
    start, end = 0, len(name)
    while start < end and is_invisible(name[start]):
        start += 1
    while end > start and is_invisible(name[end - 1]):
        end -= 1
    return name[start:end]


def has_hidden_ends(name: str) -> bool:
    """Whether a name has invisible characters at its ends that are no ordinary white space."""
    return clean_name(name) != name.strip(ORDINARY)


def say_look_alikes(names: Sequence[str]) -> None:
    """Say which classes differ in nothing but case, width, or characters that are not seen."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[looks(name)].append(name)
    for alike in groups.values():
        if len(alike) > 1:
            names_alike = ", ".join(map(ascii_if_needed, alike))
            say_once(f"classes that look alike are taken as different ones: {names_alike}")


def looks(name: str) -> str:
    """The name as it looks: without width, case and unseen characters; numbers by their value."""
    shown = "".join(
        " " if character.isspace() else character
        for character in unicodedata.normalize("NFKC", name)
        if character.isspace() or not is_invisible(character)
    )
    shown = " ".join(shown.split()).casefold()
    return repr(float(shown)) if re.fullmatch(r"[-+]?\d{1,15}(\.\d{1,15})?", shown) else shown


def ascii_if_needed(name: str) -> str:
    """The name in quotation marks, its unseen characters written out."""
    unseen = any(is_invisible(character) and character != " " for character in name)
    return ascii(name) if unseen else repr(name)


@cache
def class_list(path: Path, key: str) -> ClassList:
    """The classes that a file lists: one a line, on a single line between commas, or as a JSON list.

    Numbers in front (`1-World`) are taken as the file's own, where all classes have them and they count up.

    Args:
        path: The file.
        key: Of the configuration, for messages.

    Raises:
        DataError: No such file, fewer than two classes, or one of them twice.
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
    found = (
        ClassList(names, dict(zip(numbers, names, strict=True))) if is_numbered else ClassList(entries, {})
    )
    twice = next((name for name in found.names if found.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: the class {twice!r} stands twice")
    if len(found.names) < 2:
        raise DataError(f"{path}: {len(found.names)} classes (at least 2: one a line, or between commas)")
    numbered = f", numbered from {first} in the file" if is_numbered else ""
    say_once(f"{key}: {len(found.names)} classes{numbered}: {', '.join(found.names[:20])}")
    return found


def is_unlabelled(row: Row, named: Sequence[str]) -> bool:
    """Whether a row says that it has no class, by a mark that `named` does not have as a class."""
    found = row.values.get("label")
    name = "" if found is None else clean_name(str(found))
    return not name or (name in UNLABELLED and name not in named)


def with_named_class(row: Row, classes: ClassList) -> Row:
    """The row with its class by name, where it gives the number that the list of classes has for it."""
    found = row.values.get("label")
    name = None if isinstance(found, bool) or found is None else classes.by_number.get(clean_name(str(found)))
    return row if name is None else replace(row, values={**row.values, "label": name})


def listed_entries(path: Path) -> list[str]:
    """The entries of a list of classes.

    Raises:
        DataError: JSON that is not a list of names.
    """
    lines = [line for _, line in numbered_lines(path) if line.strip()]
    if lines and lines[0].lstrip().startswith(("[", "{")):
        try:
            names = json.loads(whole_text(path))
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(
                f"{path}: not a list of classes (one a line, between commas, or a JSON list of names)"
            )
        return names
    return re.split(r"[,，、\t]", lines[0]) if len(lines) == 1 else lines
