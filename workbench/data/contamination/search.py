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
"""Version of the comparison; a change makes a run search its rows again."""

BATCH = 500_000
"""Characters of rows that are searched at once; only a longer row is split between two batches."""

PIECE, REACH = 400_000, 40_000
"""Characters of a chunk of a long text, and of the overlap between two chunks."""

SLACK = 40
"""Tokens by which the compared part of a row is longer than multiples of the item's length."""


@dataclass(frozen=True)
class Pair:
    """A benchmark item, and a training row that has it."""

    id: str
    where: str
    """The position of the row: `file:line`, or `file: row n`."""
    overlap: Overlap


@dataclass(frozen=True)
class Contamination:
    """The items of a benchmark that are in training rows."""

    num_items: int
    num_short: int
    """Number of items with too few distinctive words, which are never found."""
    pairs: tuple[Pair, ...] = field(default=())
    """Each item in the training rows, with the row that has most of it; in the order of the items."""

    @property
    def count(self) -> int:
        """Number of items that training rows have."""
        return len(self.pairs)


@dataclass(frozen=True)
class Batch:
    """Rows that are searched at once, with their tokens."""

    rows: list[Row]
    num_new: int
    """Number of rows that begin in this batch: all but a first row that continues from the batch before."""
    tokens: Tokens
    """Tokens of all texts of the rows."""
    row_of_text: Numbers
    """For each text of `tokens` the index of its row in `rows`."""


def contamination(
    benchmarks: Mapping[str, Sequence[Item]],
    rows: Iterable[Row],
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Contamination]:
    """Search training rows for the items of benchmarks: word for word, reordered, or nearly so.

    Returns for each benchmark, by name, which of its items rows have.

    Args:
        benchmarks: Name -> items.
        rows: The rows that a model was trained on; they are read once, some at a time.
        advance: Called after each batch with the number of rows searched since the last call.
    """
    known = {name: entries(items) for name, items in benchmarks.items()}
    together = list(chain(*known.values()))
    names = [name for name, of_benchmark in known.items() for _ in of_benchmark]
    index, findings = Index(together), Findings(names, together)
    for batch in batches(rows):
        findings.add_batch(batch, index)
        advance(batch.num_new)
    return {name: findings.of(name, items) for name, items in benchmarks.items()}


def batches(rows: Iterable[Row]) -> Iterator[Batch]:
    """Yield rows with their tokens, about BATCH characters at a time; a long row is split after 2 x BATCH.

    At least one batch is yielded, possibly without rows.
    """
    held: list[Row] = []
    texts: list[str] = []
    owners: list[int] = []
    size, num_continued = 0, 0

    def batch() -> Batch:
        return Batch(held, len(held) - num_continued, tokenize(texts), np.array(owners, dtype=np.int64))

    for row in rows:
        if size >= BATCH:
            yield batch()
            held, texts, owners, size, num_continued = [], [], [], 0, 0
        held.append(row)
        for text in texts_within(row.values):
            for chunk in overlapping_chunks(text):
                texts.append(chunk)
                owners.append(len(held) - 1)
                size += len(chunk)
                if size >= 2 * BATCH:
                    yield batch()
                    held, texts, owners, size, num_continued = [row], [], [], 0, 1
    yield batch()


def overlapping_chunks(text: str) -> Iterator[str]:
    """Yield chunks of PIECE characters of a text; each passage of up to REACH characters is in a chunk."""
    yield text[:PIECE]
    for start in range(PIECE - REACH, len(text) - REACH, PIECE - REACH):
        yield text[start : start + PIECE]


class Findings:
    """The benchmark items that training rows have, each with the row that has most of it."""

    def __init__(self, names: Sequence[str], known: Sequence[Entry]) -> None:
        """Start without any findings.

        Args:
            names: For each entry the name of its benchmark.
            known: The entries of all benchmarks.
        """
        self.names = names
        self.entries = known
        self.pairs: dict[tuple[str, str], Pair] = {}

    def add_batch(self, batch: Batch, index: Index) -> None:
        """Compare each row of a batch with the items that share enough n-grams with it; record the matches.

        `index` must be of the same entries, in the same order.
        """
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
        is_candidate = index.are_enough(distinct % len(self.entries), *sums)
        for number in np.flatnonzero(is_candidate).tolist():
            row, entry = divmod(int(distinct[number]), len(self.entries))
            hit_positions = positions[starts[number] : ends[number]]
            length = len(self.entries[entry])
            tokens = batch.tokens.part(*window(hit_positions, length, row_starts[row : row + 2]))
            self.compare(entry, batch.rows[row], tokens)

    def compare(self, number: int, row: Row, tokens: Tokens) -> None:
        """Compare a row with an entry, and record the row if it has more of the item than earlier rows.

        Args:
            number: Index of the entry.
            row: The row.
            tokens: The part of the row to compare.
        """
        entry = self.entries[number]
        key = (self.names[number], entry.id)
        before = self.pairs.get(key)
        if before is not None and before.overlap.kind == "verbatim":
            return
        shared = overlap(entry, tokens)
        if shared is not None and (before is None or rank(shared) > rank(before.overlap)):
            self.pairs[key] = Pair(entry.id, row.where, shared)

    def of(self, name: str, items: Sequence[Item]) -> Contamination:
        """Return which of the `items` of the benchmark `name` the rows searched so far have."""
        long_enough = {
            entry.id
            for benchmark, entry in zip(self.names, self.entries, strict=True)
            if benchmark == name and entry.evidence() >= DISTINCT_WORDS
        }
        pairs = [self.pairs[name, item.id] for item in items if (name, item.id) in self.pairs]
        return Contamination(len(items), len({item.id for item in items} - long_enough), tuple(pairs))


def rank(shared: Overlap) -> tuple[int, float]:
    """Return a sort key of overlaps, by kind, then by share: the more of the item, the larger the key."""
    return ("near", "question", "reordered", "verbatim").index(shared.kind), shared.share


def window(positions: Numbers, length: int, row: Numbers) -> tuple[int, int]:
    """Return (first index, last index + 1) of the tokens around the densest hits of an item in a row.

    Args:
        positions: Token indices of the hits, ascending.
        length: Number of tokens of the item.
        row: Indices of the row's first token and its last + 1.
    """
    reach = 2 * length + SLACK
    counts = np.searchsorted(positions, positions + reach, side="right") - np.arange(len(positions))
    start = int(positions[int(np.argmax(counts))])
    return max(start - length - SLACK, int(row[0])), min(start + reach + length, int(row[1]))
