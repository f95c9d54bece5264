"""Chooses the chunks that go into a page of limited size."""

from dataclasses import dataclass, field

MOST_BYTES = 15_000_000
"""Largest size of a page. What doesn't fit is only in items.parquet, and the page says so."""


@dataclass(frozen=True, order=True)
class Chunk:
    """One compressed block of data in a page, as text."""

    priority: int
    """Chunks with lower numbers are chosen first; of equal numbers the smaller chunk is."""
    size: int
    """Characters of `text`."""
    name: str
    text: str = field(compare=False, repr=False)


class Shelf:
    """The chunks of a page of limited size: if not all fit, those with the lowest priority numbers stay."""

    def __init__(self, room: int) -> None:
        """Start without chunks; `room` is the number of characters that all chunks may have together."""
        self.room = room
        self.chunks: list[Chunk] = []
        self.dropped: list[str] = []
        """Names of the chunks that don't fit, in the order in which they were dropped."""

    def add(self, name: str, priority: int, text: str) -> None:
        """Add a chunk, then choose anew by rising priority number and size; drop the chunks that don't fit.

        A chunk that was added earlier may be dropped for the new one.
        """
        kept, left = [], self.room
        for chunk in sorted([*self.chunks, Chunk(priority, len(text), name, text)]):
            if chunk.size <= left:
                kept.append(chunk)
                left -= chunk.size
            else:
                self.dropped.append(chunk.name)
        self.chunks = kept

    def left(self, priority: int) -> int:
        """Return the number of characters that the chunks up to this priority number leave free."""
        return self.room - sum(chunk.size for chunk in self.chunks if chunk.priority <= priority)
