"""Limits the steps, processor time and characters of one rendering, and measures values in characters."""

import time
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.utils import Namespace

MAX_STEPS = 100_000
"""Loop iterations plus macro calls in one rendering."""
MAX_CHARACTERS = 10_000_000
"""Characters of the rendered text, and of every string, list or dictionary that a template creates."""
MAX_WORK = 500_000_000
"""Characters of all values that one rendering creates, added up."""
MAX_SECONDS = 5.0
"""Seconds of processor time of one rendering."""
MAX_EFFORT = 100_000
"""Work between two looks at the clock: characters created, plus 12,500 per operation."""
MAX_BITS = 100_000
"""Bits of an integer that a template creates."""
NODE = 32
"""Characters that an item of a list or dictionary counts for, besides its content."""


class BoundError(TemplateError):
    """A template exceeds a limit. The message is a predicate, as in `makes a text of more than ...`."""


class Meter:
    """Counts the steps, the characters and the time of one rendering; raises a BoundError at a limit."""

    __slots__ = ("deadline", "effort", "steps", "work")

    def __init__(self) -> None:
        """Start counting, and the clock."""
        self.steps = self.work = self.effort = 0
        self.deadline = time.thread_time() + MAX_SECONDS

    def step(self) -> bool:
        """Count a loop iteration or a macro call; return True, so that a condition can contain the call.

        Raises:
            BoundError: There are more than MAX_STEPS, or `tick` reaches a limit.
        """
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise BoundError(f"takes more than {MAX_STEPS:,} loop iterations and macro calls")
        return self.tick()

    def tick(self) -> bool:
        """Count an operation that may be slow, and call `look` at every ninth or so; return True.

        Raises:
            BoundError: `look` reaches a limit.
        """
        self.effort += MAX_EFFORT // 8
        if self.effort > MAX_EFFORT:
            self.look()
        return True

    def charge(self, amount: int, what: str = "a value") -> None:
        """Add the characters of a new value to the total, and check them and the total once in a while.

        Args:
            amount: Characters of the value; more than MAX_EFFORT are checked at once.
            what: Name of the value in the error message.

        Raises:
            BoundError: The value or the total is too long, or the time is up.
        """
        self.work += amount
        self.effort += amount + 1000
        if self.effort > MAX_EFFORT:
            bound(amount, what)
            self.look()

    def look(self) -> None:
        """Check the processor time of this thread and the total of characters.

        Raises:
            BoundError: One of them is too large.
        """
        self.effort = 0
        if time.thread_time() > self.deadline:
            raise BoundError(f"takes more than {MAX_SECONDS:g} seconds for one text")
        if self.work > MAX_WORK:
            raise BoundError(f"makes values of more than {MAX_WORK:,} characters altogether")


def bound(amount: int, what: str = "a value") -> None:
    """Check that a value isn't too long.

    Args:
        amount: Characters of the value.
        what: Name of the value in the error message.

    Raises:
        BoundError: The value has more than MAX_CHARACTERS.
    """
    if amount > MAX_CHARACTERS:
        raise BoundError(f"makes {what} of more than {MAX_CHARACTERS:,} characters")


def shallow(value: Any) -> int:
    """Return the characters that a new value counts for, without nested values.

    A string counts for its length, a list, tuple or dictionary for 32 per item; any other value for 0.
    """
    if isinstance(value, str | bytes):
        return len(value)
    return NODE * len(value) if isinstance(value, list | tuple | dict) else 0


def size(value: Any) -> int:
    """Return the characters that a value counts for, with all nested values; it stops above MAX_CHARACTERS.

    A list or dictionary counts for 32 per item besides the item's own characters. An item that occurs twice
    counts twice, because it is written twice.
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
    """Return the items of a container (of a dictionary, keys and values); an empty list for other values."""
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
    """Return the attributes of a template's namespace: name -> value."""
    values: dict[str, Any] = object.__getattribute__(namespace, "_Namespace__attrs")
    return values


def depth(value: Any) -> int:
    """Return how deeply lists and dictionaries are nested in a value, at most 1,000; a string has depth 0."""
    level, layer = 0, members(value)
    while layer and level < 1000:
        level += 1
        layer = [member for item in layer for member in members(item)]
    return level
