"""Finds benchmark items whose normalized text is contained in training rows."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from workbench.data.rows import Row, texts_within

WINDOW = 16
"""Length of the item's prefix that is searched before the full item is compared."""


@dataclass(frozen=True)
class Contamination:
    """Result of the search."""

    num_items: int
    found: tuple[tuple[str, str], ...]
    """Each item that a row contains, as given, with the file position of the first such row."""

    @property
    def count(self) -> int:
        """Number of items that a training row contains."""
        return len(self.found)


def contamination(items: Sequence[str], rows: Iterable[Row]) -> Contamination:
    """Find the items whose full text is a substring of one text of a row.

    Case, width of characters and white space are ignored. Items without other characters are never found.
    """
    normalized_items = {item: normalized(item) for item in items}
    windows: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for item, text in normalized_items.items():
        size = min(len(text), WINDOW)
        windows[size][text[:size]].append(item)
    windows.pop(0, None)
    positions: dict[str, str] = {}
    for row in rows:
        for text in map(normalized, texts_within(row.values)):
            for item in contained(text, windows, normalized_items):
                positions.setdefault(item, row.where)
    found = tuple((item, positions[item]) for item in items if item in positions)
    return Contamination(len(items), found)


def contained(
    text: str, windows: dict[int, dict[str, list[str]]], normalized_items: dict[str, str]
) -> Iterator[str]:
    """Yield the items that a normalized text contains."""
    for size, starts in windows.items():
        for position in range(len(text) - size + 1):
            for item in starts.get(text[position : position + size], ()):
                if text.startswith(normalized_items[item], position):
                    yield item


def normalized(text: str) -> str:
    """Remove white space, and normalize width and case."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
