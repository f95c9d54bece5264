"""An index of the items' grams, in which the tokens of many rows are looked up at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.data.contamination.items import Entry, distinct_pairs
from workbench.data.contamination.tokens import Floats, Hashes, Numbers, Tokens, Truths, grams

SIZES = (4, 3)
"""Tokens of the grams that are looked up; the shorter only of entries whose lines are too short."""

MOST_ENTRIES = 32
"""Entries that share a gram, at most; a gram of more tells nothing and is left out."""

FEWEST_GRAMS = 2.0
"""Grams of a question that a row must have to be compared with the item, if the question has as many."""

QUESTION_SHARE, WHOLE_SHARE = 0.25, 0.5
"""Share of the question's grams that it must have at least, or of all of the item's grams."""

MOST_HITS = 2_000_000
"""Hits of a batch; of more, only each 2nd, 3rd, ... occurrence of a gram is a hit, as it is repeated."""

FILTER_BITS = 24
"""Bits of a hash that a table is asked before the index itself."""


@dataclass(frozen=True)
class Hits:
    """Grams of the items that rows have."""

    positions: Numbers
    """Of a token in the rows."""
    postings: Numbers
    """Of an entry with the gram that begins there, in the index."""


class Index:
    """The grams of all entries, sorted, each with the entries that have it."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        """Index the entries; one without a gram of three tokens is never found."""
        anchors = [_anchors(entry) for entry in entries]
        owners = np.repeat(np.arange(len(entries)), [len(hashes) for hashes, _ in anchors])
        hashes = np.concatenate([np.zeros(0, np.uint64), *(hashes for hashes, _ in anchors)])
        is_question = np.concatenate([np.zeros(0, bool), *(flags for _, flags in anchors)])
        pairs = distinct_pairs(hashes, owners)
        known, starts, counts = np.unique(hashes[pairs], return_index=True, return_counts=True)
        told = counts <= MOST_ENTRIES
        self.hashes, self.starts, self.counts = known[told], starts[told], counts[told]
        self.owners, self.is_question = owners[pairs], is_question[pairs]
        self.weights = np.repeat(told / counts, counts)
        """Of each posting: 1/n for a gram of n entries."""
        of_question, of_whole = self.sums(self.owners, np.arange(len(pairs)), len(entries))
        self.needed_question = np.maximum(QUESTION_SHARE * of_question, np.minimum(FEWEST_GRAMS, of_question))
        self.needed_whole = np.maximum(WHOLE_SHARE * of_whole, np.minimum(FEWEST_GRAMS, of_whole))
        self.filter = np.zeros(1 << FILTER_BITS, dtype=bool)
        self.filter[_filter_key(self.hashes)] = True

    def sums(self, groups: Numbers, postings: Numbers, num_groups: int) -> tuple[Floats, Floats]:
        """Return the summed weights of each group of postings: those of questions, and all."""
        weights = self.weights[postings] if len(postings) else np.zeros(0)
        of_question = np.bincount(groups, weights * self.is_question[postings], minlength=num_groups)
        of_whole = np.bincount(groups, weights, minlength=num_groups)
        return of_question.astype(np.float64), of_whole.astype(np.float64)

    def are_enough(self, entries: Numbers, of_question: Floats, of_whole: Floats) -> Truths:
        """Return whether a row with grams of these weights is to be compared with each entry."""
        by_question = (of_question > 0) & (of_question >= self.needed_question[entries] - 1e-9)
        by_whole = (of_whole > 0) & (of_whole >= self.needed_whole[entries] - 1e-9)
        enough: Truths = by_question | by_whole
        return enough

    def lookup(self, tokens: Tokens) -> Hits:
        """Return which grams of which entries the tokens have, and where."""
        positions, numbers = [], []
        for size in SIZES:
            hashes = _salted(grams(tokens, size), size)
            maybe = np.flatnonzero(self.filter[_filter_key(hashes)])
            places = np.searchsorted(self.hashes, hashes[maybe]).clip(max=max(len(self.hashes) - 1, 0))
            is_known: Truths = (
                self.hashes[places] == hashes[maybe] if len(self.hashes) else np.zeros(0, dtype=bool)
            )
            positions.append(maybe[is_known])
            numbers.append(places[is_known])
        where, which = np.concatenate(positions), np.concatenate(numbers)
        step = int(self.counts[which].sum()) // MOST_HITS + 1
        where, which = where[::step], which[::step]
        counts = self.counts[which]
        ends = np.cumsum(counts)
        offsets = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
        return Hits(np.repeat(where, counts), np.repeat(self.starts[which], counts) + offsets)


def _anchors(entry: Entry) -> tuple[Hashes, Truths]:
    """Return the grams of an entry to look up, and which are of its question."""
    for size in SIZES:
        hashes = grams(entry.tokens, size)
        if (hashes[~entry.is_option] != 0).any() or (size == SIZES[-1] and hashes.any()):
            return _salted(hashes[hashes != 0], size), ~entry.is_option[hashes != 0]
    return np.zeros(0, np.uint64), np.zeros(0, bool)


def _salted(hashes: Hashes, size: int) -> Hashes:
    """Tell equal hashes of grams of different sizes apart; 0 remains 0."""
    return np.where(hashes == 0, 0, hashes + np.uint64(size))


def _filter_key(hashes: Hashes) -> Numbers:
    return (hashes >> np.uint64(64 - FILTER_BITS)).astype(np.int64)
