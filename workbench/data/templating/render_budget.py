"""What one rendering of a template may use: steps, processor time, characters; and how large a value is."""

import time
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.utils import Namespace

MAX_STEPS = 100_000
"""Steps of loops and calls of macros in one rendering."""
MAX_CHARACTERS = 10_000_000
"""Characters of the rendered text, and of every text, list or mapping made on the way."""
MAX_WORK = 500_000_000
"""Characters of everything that one rendering makes, all added up."""
MAX_SECONDS = 5.0
"""Processor time of one rendering."""
MAX_EFFORT = 100_000
"""Characters made, and operations at 12,500 each, between two looks at the time."""
MAX_BITS = 100_000
"""Bits of a whole number."""
NODE = 32
"""Characters that an item of a list or a mapping counts for, besides its own."""


class BoundError(TemplateError):
    """A template that would use more than a rendering may; the message is a predicate: `makes ...`."""


class Meter:
    """Counts what one rendering uses."""

    __slots__ = ("deadline", "effort", "steps", "work")

    def __init__(self) -> None:
        """Start to count."""
        self.steps = self.work = self.effort = 0
        self.deadline = time.thread_time() + MAX_SECONDS

    def step(self) -> bool:
        """Count a step of a loop or a call of a macro; always true, so that it fits into a condition."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise BoundError(f"takes more than {MAX_STEPS:,} steps of loops and calls of macros")
        return self.tick()

    def tick(self) -> bool:
        """Count an operation that may take long, and look at the time now and then; always true."""
        self.effort += MAX_EFFORT // 8
        if self.effort > MAX_EFFORT:
            self.look()
        return True

    def charge(self, amount: int, what: str = "a value") -> None:
        """Count the characters of a value that is about to be made, or was made of values like it."""
        self.work += amount
        self.effort += amount + 1000
        if self.effort > MAX_EFFORT:
            bound(amount, what)
            self.look()

    def look(self) -> None:
        """Refuse to go on after the time or the work that a rendering may take."""
        self.effort = 0
        if time.thread_time() > self.deadline:
            raise BoundError(f"takes more than {MAX_SECONDS:g} seconds for one text")
        if self.work > MAX_WORK:
            raise BoundError(f"makes values of more than {MAX_WORK:,} characters altogether")


def bound(amount: int, what: str = "a value") -> None:
    """Refuse a value that is too long."""
    if amount > MAX_CHARACTERS:
        raise BoundError(f"makes {what} of more than {MAX_CHARACTERS:,} characters")


def shallow(value: Any) -> int:
    """Characters of a text, or of a container without what it holds; nothing for anything else."""
    if isinstance(value, str | bytes):
        return len(value)
    return NODE * len(value) if isinstance(value, list | tuple | dict) else 0


def size(value: Any) -> int:
    """Characters of a value, lists and mappings with all that they hold; counting ends beyond the bound.

    Shared parts count as often as they occur, as they do when the value is written out.
    """
    if isinstance(value, str | bytes):
        return len(value)
    total = 0
    waiting = [value]
    while waiting and total <= MAX_CHARACTERS:
        item = waiting.pop()
        total += NODE
        if isinstance(item, str | bytes):
            total += len(item)
        elif isinstance(item, bool | float) or item is None:
            continue
        elif isinstance(item, int):
            total += item.bit_length() // 3
        else:
            waiting += members(item)
    return total


def members(value: Any) -> list[Any]:
    """What a container holds, keys included; nothing for anything else."""
    if isinstance(value, Namespace):
        value = attributes(value)
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset | KeysView | ValuesView):
        return list(value)
    if isinstance(value, ItemsView):
        return [part for pair in value for part in pair]
    return []


def attributes(namespace: Namespace) -> dict[str, Any]:
    """The values of a namespace by name."""
    values: dict[str, Any] = object.__getattribute__(namespace, "_Namespace__attrs")
    return values


def depth(value: Any) -> int:
    """How deep a value is nested; a text has depth 0. Counting ends at 1,000."""
    level, layer = 0, members(value)
    while layer and level < 1000:
        level += 1
        layer = [part for item in layer for part in members(item)]
    return level
