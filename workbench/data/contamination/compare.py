"""Compares an item with a part of a training row, token by token."""

from dataclasses import dataclass

import numpy as np

from workbench.data.contamination.items import SIZE, Entry, covering
from workbench.data.contamination.tokens import Numbers, Tokens, Truths, grams

FEWEST_WORDS, DISTINCT_WORDS = 6.0, 2.0
"""Words that an item must have to be found wherever it is, and words that tell it from the other items.

A Chinese character is half a word; a word that n items of the benchmark have tells 1/n. A shorter item is
found only where each line of its question is a whole text of a row.
"""

QUESTION_WORDS, QUESTION_DISTINCT_WORDS = 8.0, 4.0
"""The same of a question that is found without all of its options; options in the row count as its words."""

NEAR, NEAR_WORDS = 0.88, 8.0
"""Share of an item's distinctive words that a row must have, and how many of them the item must have."""

RUN = 0.4
"""Share of a question that the longest common run must have, if the options are not in the row."""

RUN_TOKENS = 20
"""A line of at most so many tokens must be in the row in one run; of a longer one all grams are enough."""

LINE, ONLY_LINE, LINE_WORDS = 0.75, 0.5, 2.0
"""Share of each line of a question that a row must have: of several lines, or of one; and its fewest words.

A passage without what is asked of it is not the item. A question of one line has its options to tell it.
"""


@dataclass(frozen=True)
class Overlap:
    """What of an item is in a row."""

    kind: str
    """`verbatim`, `reordered` (options), `question` (without all its options), or `near`."""
    share: float
    """Share of the item's distinctive words that the row has; for `question`, of the question's."""
    longest: int
    """Tokens (words, or Chinese characters) of the longest run that both have."""


def overlap(entry: Entry, row: Tokens) -> Overlap | None:
    """Return what of an item is in a part of a row; None if it is not enough to say that the row has it."""
    is_there = np.zeros(len(entry), dtype=bool)
    for size in range(1, SIZE + 1):
        if len(own := np.flatnonzero((entry.sizes == size) & (entry.grams != 0))):
            is_there[own] = np.isin(entry.grams[own], grams(row, size))
    has = with_pairs(entry, covering(is_there, entry.sizes), row)
    if not has_each_line(entry, has):
        return None
    is_missing = ~is_there & (entry.grams != 0) & (entry.weights > 0)
    whole = Part.of(entry, has, is_missing, entry.weights > 0)
    question = Part.of(entry, has, is_missing, ~entry.is_option)
    longest = longest_run(has)
    is_long = whole.is_told(FEWEST_WORDS, DISTINCT_WORDS) and are_runs(entry, row, entry.weights > 0)
    if whole.is_complete and (is_long or are_texts(entry, row)):
        return Overlap(kind_of(entry, row), whole.share, longest)
    if whole.is_near:
        return Overlap("near", whole.share, longest)
    needed = QUESTION_WORDS - option_words(entry, has)
    is_long = question.is_told(needed, QUESTION_DISTINCT_WORDS) and are_runs(entry, row, ~entry.is_option)
    if question.is_complete and is_long:
        return Overlap("question", question.share, longest)
    if question.is_near and longest_run(has & ~entry.is_option) >= RUN * (~entry.is_option).sum():
        return Overlap("near", question.share, longest)
    return None


def with_pairs(entry: Entry, has: Truths, row: Tokens) -> Truths:
    """Add pairs of tokens in lines of which the row has half: between a typo and the end of a line."""
    pairs = np.isin(grams(entry.tokens, 2), grams(row, 2)) & (grams(entry.tokens, 2) != 0)
    pairs[1:] |= pairs[:-1]
    lines = np.unique(entry.tokens.texts, return_inverse=True)[1]
    is_half = np.bincount(lines, has) >= np.bincount(lines) / 2
    with_them: Truths = has | (pairs & is_half[lines])
    return with_them


@dataclass(frozen=True)
class Part:
    """What a row has of an item, or of its question."""

    words: float
    """Words, a Chinese character as half of one."""
    distinct: float
    """The same, but a word that n items have counts 1/n."""
    share: float
    """Share of these that the row has."""
    is_complete: bool
    """Whether the row has all of its grams."""
    has_numbers: bool
    """Whether the row has all of its numbers: with another number it is another question."""

    @classmethod
    def of(cls, entry: Entry, has: Truths, is_missing: Truths, chosen: Truths) -> "Part":
        """Measure the chosen tokens of an item."""
        weights = (entry.weights * chosen).astype(np.float64)
        distinct, words = float(weights.sum()), float((entry.tokens.evidence * chosen).sum())
        share = 1 - float((weights * ~has).sum()) / distinct if distinct else 0.0
        has_numbers = bool((has | ~entry.tokens.is_number | entry.is_option).all())
        return cls(words, distinct, share, distinct > 0 and not (is_missing & chosen).any(), has_numbers)

    def is_told(self, words: float, distinct: float) -> bool:
        """Whether it is long enough to be told from a common phrase."""
        return self.words >= words and self.distinct >= distinct

    @property
    def is_near(self) -> bool:
        """Whether the row has nearly all of it."""
        return self.share >= NEAR and self.distinct >= NEAR_WORDS and self.has_numbers


def are_runs(entry: Entry, row: Tokens, chosen: Truths) -> bool:
    """Whether the row has each of the chosen lines in one run, not in fragments; long lines count as such."""
    for line in np.unique(entry.tokens.texts[chosen]):
        own = entry.tokens.chosen(entry.tokens.texts == line)
        if SIZE < len(own) <= RUN_TOKENS and grams(own, len(own))[0] not in grams(row, len(own)):
            return False
    return True


def are_texts(entry: Entry, row: Tokens) -> bool:
    """Whether each line of the question of a short item is a text of the row from beginning to end."""
    if entry.evidence() < DISTINCT_WORDS:
        return False
    texts = {row.hashes[row.texts == text].tobytes() for text in np.unique(row.texts)}
    hashes, lines = entry.tokens.hashes[~entry.is_option], entry.tokens.texts[~entry.is_option]
    return all(hashes[lines == line].tobytes() in texts for line in np.unique(lines))


def has_each_line(entry: Entry, has: Truths) -> bool:
    """Whether the row has most of each line of the question."""
    lines = np.unique(entry.tokens.texts, return_inverse=True)[1]
    weights = entry.weights * ~entry.is_option
    words, found = np.bincount(lines, weights), np.bincount(lines, weights * has)
    told = words >= LINE_WORDS
    needed = LINE if told.sum() > 1 else ONLY_LINE
    return bool((found[told] >= needed * words[told]).all())


def option_words(entry: Entry, has: Truths) -> float:
    """Return how many words the options have that are in the row as a whole."""
    lines = np.unique(entry.tokens.texts, return_inverse=True)[1]
    words = np.bincount(lines, entry.tokens.evidence * entry.is_option * (entry.weights > 0))
    return float(words[np.bincount(lines, ~has) == 0].sum())


def longest_run(has: Truths) -> int:
    """Return the length of the longest run of true values."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], has, [False]])))
    return int((bounds[1::2] - bounds[::2]).max(initial=0))


def kind_of(entry: Entry, row: Tokens) -> str:
    """Tell whether a row that has all of an item has its options in the same order."""
    firsts = np.flatnonzero(np.diff(entry.tokens.texts, prepend=-1) != 0)
    options = [int(first) for first in firsts if entry.is_option[first] and entry.grams[first]]
    positions = [first_position(entry, first, row) for first in options]
    return "verbatim" if positions == sorted(positions) else "reordered"


def first_position(entry: Entry, first: int, row: Tokens) -> int:
    """Return where in the row the gram stands with which an option begins."""
    places: Numbers = np.flatnonzero(grams(row, int(entry.sizes[first])) == entry.grams[first])
    return int(places[0]) if len(places) else -1
