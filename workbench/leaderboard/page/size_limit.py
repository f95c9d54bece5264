"""Chooses what goes into a page of limited size."""

from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Chunk:
    """Packed part of a page."""

    priority: int
    """Lower ones go first."""
    size: int
    """Characters of `text`."""
    name: str
    text: str = field(compare=False, repr=False)


class Shelf:
    """The chunks of a page, of which those with the lowest priority numbers are kept."""

    def __init__(self, room: int) -> None:
        """Make an empty shelf of `room` characters."""
        self.room = room
        self.chunks: list[Chunk] = []
        self.dropped: list[str] = []
        """Names of the chunks that don't fit, in the order in which they were dropped."""

    def add(self, name: str, priority: int, text: str) -> None:
        """Add a chunk, and drop whatever doesn't fit any more, smaller ones of a priority last."""
        kept, left = [], self.room
        for chunk in sorted([*self.chunks, Chunk(priority, len(text), name, text)]):
            if chunk.size <= left:
                kept.append(chunk)
                left -= chunk.size
            else:
                self.dropped.append(chunk.name)
        self.chunks = kept

    def left(self, priority: int) -> int:
        """Return how many characters a chunk of this priority may have."""
        return self.room - sum(chunk.size for chunk in self.chunks if chunk.priority <= priority)
