"""Benchmark items that also stand in the training rows: exact containment, after normalization."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from workbench.data.rows import Row, texts_within

WINDOW = 16
"""Characters by which an item is looked for before it is compared whole."""


@dataclass(frozen=True)
class Contamination:
    """What was found."""

    num_items: int
    found: tuple[tuple[str, str], ...]
    """Each item that stands in a row, as given, and where it stands first."""

    @property
    def count(self) -> int:
        """Items that stand in a training row."""
        return len(self.found)


def contamination(items: Sequence[str], rows: Iterable[Row]) -> Contamination:
    """The items whose whole text stands inside one text of a row.

    Case, width of characters and white space don't count. An item that is empty then is never found.
    """
    sought = {item: normalized(item) for item in items}
    windows: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for item, text in sought.items():
        size = min(len(text), WINDOW)
        windows[size][text[:size]].append(item)
    windows.pop(0, None)
    places: dict[str, str] = {}
    for row in rows:
        for text in map(normalized, texts_within(row.values)):
            for item in contained(text, windows, sought):
                places.setdefault(item, row.where)
    return Contamination(len(items), tuple((item, places[item]) for item in items if item in places))


def contained(text: str, windows: dict[int, dict[str, list[str]]], sought: dict[str, str]) -> Iterator[str]:
    """The items that stand in a normalized text."""
    for size, starts in windows.items():
        for position in range(len(text) - size + 1):
            for item in starts.get(text[position : position + size], ()):
                if text.startswith(sought[item], position):
                    yield item


def normalized(text: str) -> str:
    """The text without white space, in one width and case."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
