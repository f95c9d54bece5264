"""Limits the steps, processor time and characters of one rendering; measures the size of values."""

import time
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.utils import Namespace

MAX_STEPS = 100_000
"""Loop iterations plus macro calls in one rendering."""
MAX_CHARACTERS = 10_000_000
"""Characters of the rendered text, and of every intermediate string, list or dictionary."""
MAX_WORK = 500_000_000
"""Total characters of all values that one rendering creates."""
MAX_SECONDS = 5.0
"""Processor time of one rendering."""
MAX_EFFORT = 100_000
"""Characters created, plus 12,500 per operation, between two looks at the clock."""
MAX_BITS = 100_000
"""Bits of an integer."""
NODE = 32
"""Characters added per item of a list or dictionary, for the container itself."""


class BoundError(TemplateError):
    """A template exceeds a limit. The message is a predicate: `makes ...`."""


class Meter:
    """Counts the steps, characters and time of one rendering."""

    __slots__ = ("deadline", "effort", "steps", "work")

    def __init__(self) -> None:
        """Start the clock."""
        self.steps = self.work = self.effort = 0
        self.deadline = time.thread_time() + MAX_SECONDS

    def step(self) -> bool:
        """Count a loop iteration or macro call; always true, so that it can be part of a condition."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise BoundError(f"takes more than {MAX_STEPS:,} loop iterations and macro calls")
        return self.tick()

    def tick(self) -> bool:
        """Count an operation that may be slow, and look at the clock now and then; always true."""
        self.effort += MAX_EFFORT // 8
        if self.effort > MAX_EFFORT:
            self.look()
        return True

    def charge(self, amount: int, what: str = "a value") -> None:
        """Count the characters of a value that is created; `what` names the value in the error message."""
        self.work += amount
        self.effort += amount + 1000
        if self.effort > MAX_EFFORT:
            bound(amount, what)
            self.look()

    def look(self) -> None:
        """Raise BoundError if the time or the total characters of the rendering are exceeded."""
        self.effort = 0
        if time.thread_time() > self.deadline:
            raise BoundError(f"takes more than {MAX_SECONDS:g} seconds for one text")
        if self.work > MAX_WORK:
            raise BoundError(f"makes values of more than {MAX_WORK:,} characters altogether")


def bound(amount: int, what: str = "a value") -> None:
    """Raise BoundError if a value is too long; `what` names the value in the error message."""
    if amount > MAX_CHARACTERS:
        raise BoundError(f"makes {what} of more than {MAX_CHARACTERS:,} characters")


def shallow(value: Any) -> int:
    """Return the size of a string, or of a container without its items; 0 for other values."""
    if isinstance(value, str | bytes):
        return len(value)
    return NODE * len(value) if isinstance(value, list | tuple | dict) else 0


def size(value: Any) -> int:
    """Return the size of a value in characters, including all nested items; stop once over the limit.

    A shared item counts as often as it occurs, because it is written that often.
    """
    if isinstance(value, str | bytes):
        return len(value)
    total = 0
    pending = [value]
    while pending and total <= MAX_CHARACTERS:
        item = pending.pop()
        total += NODE
        if isinstance(item, str | bytes):
            total += len(item)
        elif isinstance(item, bool | float) or item is None:
            continue
        elif isinstance(item, int):
            total += item.bit_length() // 3
        else:
            pending += members(item)
    return total


def members(value: Any) -> list[Any]:
    """Return the items of a container, including keys; an empty list for other values."""
    if isinstance(value, Namespace):
        value = attributes(value)
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset | KeysView | ValuesView):
        return list(value)
    if isinstance(value, ItemsView):
        return [member for pair in value for member in pair]
    return []


def attributes(namespace: Namespace) -> dict[str, Any]:
    """Return the attributes of a namespace."""
    values: dict[str, Any] = object.__getattribute__(namespace, "_Namespace__attrs")
    return values


def depth(value: Any) -> int:
    """Return the nesting depth of a value, at most 1,000; a string has depth 0."""
    level, layer = 0, members(value)
    while layer and level < 1000:
        level += 1
        layer = [member for item in layer for member in members(item)]
    return level
