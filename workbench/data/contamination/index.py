"""An index of the n-grams of benchmark items, in which the tokens of many rows are looked up at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.data.contamination.items import Entry, distinct_pairs
from workbench.data.contamination.tokens import Floats, Hashes, Mask, Numbers, Tokens, grams

SIZES = (4, 3)
"""Sizes of the n-grams that are looked up: 4, or 3 for an item whose question lines are all shorter."""

MOST_ENTRIES = 32
"""Largest number of entries that an n-gram of the index may have; more common n-grams are left out."""

FEWEST_GRAMS = 2.0
"""n-grams of a question that a row needs to be compared with the item; all if the question has fewer."""

QUESTION_SHARE, WHOLE_SHARE = 0.25, 0.5
"""Share of a question's n-grams that a row needs to be compared with the item, or of all n-grams."""

MOST_HITS = 2_000_000
"""Largest number of hits of a batch of rows.

If there are more, only every second (third, ...) occurrence of an n-gram is a hit. So a row that repeats a
few n-grams takes bounded time, and hides no item in other rows.
"""

FILTER_BITS = 24
"""Leading bits of a hash that index a table of booleans, which rules out most hashes quickly."""


@dataclass(frozen=True)
class Hits:
    """The hits of an index in rows: occurrences of an n-gram that the rows share with a benchmark item.

    A posting is a pair of an n-gram and an entry (an item) that has it. Both arrays have one value per hit.
    """

    positions: Numbers
    """Index of the row's token at which the n-gram begins."""
    postings: Numbers
    """Index of the posting, as in `Index.owners`."""


class Index:
    """Sorted n-grams of all benchmark items, each with its postings: the entries (items) that have it.

    `owners` has for each posting the index of its entry.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        """Index the entries; one whose lines all have fewer than three tokens has no n-grams in the index."""
        anchors = [_anchors(entry) for entry in entries]
        owners = np.repeat(np.arange(len(entries)), [len(hashes) for hashes, _ in anchors])
        hashes = np.concatenate([np.zeros(0, np.uint64), *(hashes for hashes, _ in anchors)])
        is_question = np.concatenate([np.zeros(0, bool), *(flags for _, flags in anchors)])
        pairs = distinct_pairs(hashes, owners)
        known, starts, counts = np.unique(hashes[pairs], return_index=True, return_counts=True)
        is_rare = counts <= MOST_ENTRIES
        self.hashes, self.starts, self.counts = known[is_rare], starts[is_rare], counts[is_rare]
        self.owners, self.is_question = owners[pairs], is_question[pairs]
        self.weights = np.repeat(is_rare / counts, counts)
        """Weight of each posting: 1/n for an n-gram that n entries have."""
        of_question, of_whole = self.sums(self.owners, np.arange(len(pairs)), len(entries))
        self.needed_question = np.maximum(QUESTION_SHARE * of_question, np.minimum(FEWEST_GRAMS, of_question))
        self.needed_whole = np.maximum(WHOLE_SHARE * of_whole, np.minimum(FEWEST_GRAMS, of_whole))
        self.filter = np.zeros(1 << FILTER_BITS, dtype=bool)
        self.filter[_filter_key(self.hashes)] = True

    def sums(self, groups: Numbers, postings: Numbers, num_groups: int) -> tuple[Floats, Floats]:
        """Return for each group of postings (summed weights of n-grams in questions, of all n-grams).

        Args:
            groups: For each posting the index of its group, such as a pair of a row and an entry.
            postings: Indices of postings.
            num_groups: Number of groups.
        """
        weights = self.weights[postings] if len(postings) else np.zeros(0)
        of_question = np.bincount(groups, weights * self.is_question[postings], minlength=num_groups)
        of_whole = np.bincount(groups, weights, minlength=num_groups)
        return of_question.astype(np.float64), of_whole.astype(np.float64)

    def are_enough(self, entries: Numbers, of_question: Floats, of_whole: Floats) -> Mask:
        """Return for each entry whether a row shares enough of its n-grams to be compared with it.

        Args:
            entries: Indices of entries.
            of_question: Summed weights of the question's n-grams in the row, from `sums`.
            of_whole: Summed weights of all the entry's n-grams in the row.
        """
        by_question = (of_question > 0) & (of_question >= self.needed_question[entries] - 1e-9)
        by_whole = (of_whole > 0) & (of_whole >= self.needed_whole[entries] - 1e-9)
        enough: Mask = by_question | by_whole
        return enough

    def lookup(self, tokens: Tokens) -> Hits:
        """Return the hits of the n-grams in the tokens of rows.

        If there are more than MOST_HITS, only some occurrences of each n-gram are hits, evenly spaced.
        """
        positions, found_grams = [], []
        for size in SIZES:
            hashes = _salted(grams(tokens, size), size)
            maybe = np.flatnonzero(self.filter[_filter_key(hashes)])
            grams_at = np.searchsorted(self.hashes, hashes[maybe]).clip(max=max(len(self.hashes) - 1, 0))
            is_known: Mask = (
                self.hashes[grams_at] == hashes[maybe] if len(self.hashes) else np.zeros(0, dtype=bool)
            )
            positions.append(maybe[is_known])
            found_grams.append(grams_at[is_known])
        tokens_at, known_grams = np.concatenate(positions), np.concatenate(found_grams)
        if step := int(self.counts[known_grams].sum()) // MOST_HITS:
            is_hit = _occurrences(known_grams) % (step + 1) == 0
            tokens_at, known_grams = tokens_at[is_hit], known_grams[is_hit]
        counts = self.counts[known_grams]
        ends = np.cumsum(counts)
        offsets = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
        return Hits(np.repeat(tokens_at, counts), np.repeat(self.starts[known_grams], counts) + offsets)


def _anchors(entry: Entry) -> tuple[Hashes, Mask]:
    """Return the hashes of the n-grams by which an entry is found, and whether each is in the question."""
    for size in SIZES:
        hashes = grams(entry.tokens, size)
        if (hashes[~entry.is_option] != 0).any() or (size == SIZES[-1] and hashes.any()):
            return _salted(hashes[hashes != 0], size), ~entry.is_option[hashes != 0]
    return np.zeros(0, np.uint64), np.zeros(0, bool)


def _occurrences(values: Numbers) -> Numbers:
    """Number the occurrences of each value: 0 for its first, 1 for its second, as [5, 7, 5] -> [0, 0, 1]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    numbers = np.empty(len(values), dtype=np.int64)
    numbers[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return numbers


def _salted(hashes: Hashes, size: int) -> Hashes:
    """Add the n-gram size to each hash, so that n-grams of different sizes differ.

    0 (no n-gram) remains 0.
    """
    return np.where(hashes == 0, 0, hashes + np.uint64(size))


def _filter_key(hashes: Hashes) -> Numbers:
    return (hashes >> np.uint64(64 - FILTER_BITS)).astype(np.int64)
