"""Searches training rows for the items of benchmarks."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from workbench.data.contamination.compare import DISTINCT_WORDS, Overlap, overlap
from workbench.data.contamination.index import Index
from workbench.data.contamination.items import Entry, Item, entries
from workbench.data.contamination.tokens import Numbers, Tokens, tokenize
from workbench.data.rows import Row, texts_within

VERSION = 1
"""Raised when the comparison changes, so that rows are searched again."""

BATCH = 500_000
"""Characters of rows that are looked at together."""

PIECE, REACH = 400_000, 40_000
"""Characters of a piece of a long text, and how far the next piece reaches back into it."""

SLACK = 40
"""Tokens around an item that are compared beyond its own length."""


@dataclass(frozen=True)
class Pair:
    """An item, and a row that has it."""

    id: str
    where: str
    """The position of the row: `file:line`, or `file: row n`."""
    overlap: Overlap


@dataclass(frozen=True)
class Contamination:
    """Which items of a benchmark training rows have."""

    num_items: int
    num_short: int
    """Items with too few words of their own to tell; they are never found."""
    pairs: tuple[Pair, ...] = field(default=())
    """Of each item that is found the row that has most of it, in the order of the items."""

    @property
    def count(self) -> int:
        """Number of items that are found."""
        return len(self.pairs)


@dataclass(frozen=True)
class Batch:
    """Rows as tokens."""

    rows: list[Row]
    num_new: int
    """Rows that the batch before didn't begin."""
    tokens: Tokens
    row_of_text: Numbers


def contamination(
    benchmarks: Mapping[str, Sequence[Item]],
    rows: Iterable[Row],
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Contamination]:
    """Find the items that are in a training row: word for word, with their options reordered, or nearly so.

    Args:
        benchmarks: name -> items.
        rows: the rows that a model was trained on; they are read once, some at a time.
        advance: told the number of rows looked at since it was last told.
    """
    known = {name: entries(items) for name, items in benchmarks.items()}
    together = list(chain(*known.values()))
    names = [name for name, some in known.items() for _ in some]
    index, found = Index(together), Findings(names, together)
    for batch in batches(rows):
        found.look(batch, index)
        advance(batch.num_new)
    return {name: found.of(name, items) for name, items in benchmarks.items()}


def batches(rows: Iterable[Row]) -> Iterator[Batch]:
    """Yield the rows as tokens, about BATCH characters at a time."""
    held: list[Row] = []
    texts: list[str] = []
    owners: list[int] = []
    size, num_continued = 0, 0
    for row in rows:
        held.append(row)
        for text in texts_within(row.values):
            for piece in pieces(text):
                texts.append(piece)
                owners.append(len(held) - 1)
                size += len(piece)
                if size >= BATCH:
                    yield Batch(held, len(held) - num_continued, tokenize(texts), np.array(owners))
                    held, texts, owners, size, num_continued = [row], [], [], 0, 1
    yield Batch(held, len(held) - num_continued, tokenize(texts), np.array(owners, dtype=np.int64))


def pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces that overlap."""
    yield text[:PIECE]
    for start in range(PIECE - REACH, len(text) - REACH, PIECE - REACH):
        yield text[start : start + PIECE]


class Findings:
    """The best row of each item that has been found."""

    def __init__(self, names: Sequence[str], known: Sequence[Entry]) -> None:
        """Begin with nothing found.

        Args:
            names: the benchmark of each entry.
            known: the entries.
        """
        self.names = names
        self.entries = known
        self.pairs: dict[tuple[str, str], Pair] = {}

    def look(self, batch: Batch, index: Index) -> None:
        """Compare the rows of a batch with the items of which they have enough grams."""
        hits = index.lookup(batch.tokens)
        if not len(hits.positions):
            return
        owners = batch.row_of_text[batch.tokens.texts]
        row_starts = np.searchsorted(owners, np.arange(len(batch.rows) + 1))
        keys = owners[hits.positions] * len(self.entries) + index.owners[hits.postings]
        order = np.lexsort((hits.positions, keys))
        keys, positions, postings = keys[order], hits.positions[order], hits.postings[order]
        distinct, starts, groups = np.unique(keys, return_index=True, return_inverse=True)
        ends = np.append(starts[1:], len(keys))
        sums = index.sums(groups, postings, len(distinct))
        enough = index.are_enough(distinct % len(self.entries), *sums)
        for number in np.flatnonzero(enough).tolist():
            row, entry = divmod(int(distinct[number]), len(self.entries))
            places = positions[starts[number] : ends[number]]
            tokens = batch.tokens.part(*window(places, len(self.entries[entry]), row_starts[row : row + 2]))
            self.compare(entry, batch.rows[row], tokens)

    def compare(self, number: int, row: Row, tokens: Tokens) -> None:
        """Keep the row if it has more of the item than those before it."""
        entry = self.entries[number]
        key = (self.names[number], entry.id)
        before = self.pairs.get(key)
        if before is not None and before.overlap.kind == "verbatim":
            return
        seen = overlap(entry, tokens)
        if seen is not None and (before is None or rank(seen) > rank(before.overlap)):
            self.pairs[key] = Pair(entry.id, row.where, seen)

    def of(self, name: str, items: Sequence[Item]) -> Contamination:
        """Return what was found of a benchmark."""
        telling = {
            entry.id
            for own, entry in zip(self.names, self.entries, strict=True)
            if own == name and entry.evidence() >= DISTINCT_WORDS
        }
        found = [self.pairs[name, item.id] for item in items if (name, item.id) in self.pairs]
        return Contamination(len(items), len({item.id for item in items} - telling), tuple(found))


def rank(seen: Overlap) -> tuple[int, float]:
    """Return by what overlaps are ordered, the most telling last."""
    return ("near", "question", "reordered", "verbatim").index(seen.kind), seen.share


def window(places: Numbers, length: int, row: Numbers) -> tuple[int, int]:
    """Return the part of a row in which most hits of an item are close together.

    Args:
        places: positions of the hits, ascending.
        length: tokens of the item.
        row: first token of the row, and one past its last.
    """
    reach = 2 * length + SLACK
    counts = np.searchsorted(places, places + reach, side="right") - np.arange(len(places))
    start = int(places[int(np.argmax(counts))])
    return max(start - length - SLACK, int(row[0])), min(start + reach + length, int(row[1]))
