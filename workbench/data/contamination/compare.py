"""Compares a benchmark item with a part of a training row, token by token."""

from dataclasses import dataclass

import numpy as np

from workbench.data.contamination.items import SIZE, Entry, covering
from workbench.data.contamination.tokens import Mask, Numbers, Tokens, grams

FEWEST_WORDS, DISTINCT_WORDS = 6.0, 2.0
"""Words that an item needs in order to be found anywhere in a row: in all, and weighted by distinctness.

A Chinese character counts as half a word; a word in n items of the benchmark has the weight 1/n. A shorter
item is found only if each line of its question is an entire text of a row.
"""

QUESTION_WORDS, QUESTION_DISTINCT_WORDS = 8.0, 4.0
"""Words that a question needs to be found without some of its options: in all, and by distinctness.

Options in the row count as words of the question.
"""

NEAR, NEAR_WORDS = 0.88, 8.0
"""Share of an item's distinctive words that a row needs for a near match, and words that the item needs."""

RUN = 0.4
"""Share of a question's tokens that the longest run in a row needs for a near match without the options."""

RUN_TOKENS = 20
"""A line of at most 20 tokens must be in the row as one run; of a longer line all n-grams are enough."""

LINE, ONLY_LINE, LINE_WORDS = 0.75, 0.5, 2.0
"""Share of each line of a question that a row needs: of several lines, or of an only line; words of a line.

A line of fewer words is not checked. A passage without its question is not the item. A question of one line
is recognized by its options, too.
"""


@dataclass(frozen=True)
class Overlap:
    """How much of a benchmark item a training row has."""

    kind: str
    """`verbatim`, `reordered` (options), `question` (without all its options), or `near`."""
    share: float
    """Share of the item's distinctive words that the row has; for `question`, of the question's."""
    longest: int
    """Length of the longest run of the item's tokens (words, or Chinese characters) that the row has."""


def overlap(entry: Entry, row: Tokens) -> Overlap | None:
    """Return how much of an item a part of a row has; None if it is too little to report.

    Args:
        entry: The item.
        row: Tokens of the part of the row.
    """
    is_there = np.zeros(len(entry), dtype=bool)
    for size in range(1, SIZE + 1):
        if len(starts := np.flatnonzero((entry.sizes == size) & (entry.grams != 0))):
            is_there[starts] = np.isin(entry.grams[starts], grams(row, size))
    has = with_pairs(entry, covering(is_there, entry.sizes), row)
    if not has_each_line(entry, has):
        return None
    is_missing = ~is_there & (entry.grams != 0) & (entry.weights > 0)
    whole = Coverage.of(entry, has, is_missing, entry.weights > 0)
    question = Coverage.of(entry, has, is_missing, ~entry.is_option)
    longest = longest_run(has)
    is_long = whole.is_long(FEWEST_WORDS, DISTINCT_WORDS) and are_runs(entry, row, entry.weights > 0)
    if whole.is_complete and (is_long or are_texts(entry, row)):
        return Overlap(kind_of(entry, row), whole.share, longest)
    if whole.is_near:
        return Overlap("near", whole.share, longest)
    needed = QUESTION_WORDS - option_words(entry, has)
    is_long = question.is_long(needed, QUESTION_DISTINCT_WORDS) and are_runs(entry, row, ~entry.is_option)
    if question.is_complete and is_long:
        return Overlap("question", question.share, longest)
    if question.is_near and longest_run(has & ~entry.is_option) >= RUN * (~entry.is_option).sum():
        return Overlap("near", question.share, longest)
    return None


def with_pairs(entry: Entry, has: Mask, row: Tokens) -> Mask:
    """Return the mask `has`, of an item's tokens in 3-grams of a row, with those in 2-grams of the row added.

    2-grams only count in lines of which the row has at least half: they mark the tokens between a typo and
    the end of the line, where no 3-gram fits.
    """
    pairs = np.isin(grams(entry.tokens, 2), grams(row, 2)) & (grams(entry.tokens, 2) != 0)
    pairs[1:] |= pairs[:-1]
    lines = np.unique(entry.tokens.texts, return_inverse=True)[1]
    is_half = np.bincount(lines, has) >= np.bincount(lines) / 2
    extended: Mask = has | (pairs & is_half[lines])
    return extended


@dataclass(frozen=True)
class Coverage:
    """How much of an item, or of the item's question, a row has."""

    words: float
    """Words of the text; a Chinese character counts as half a word."""
    distinct: float
    """Words of the text, where a word that n items have counts 1/n."""
    share: float
    """Share of `distinct` that the row has."""
    is_complete: bool
    """Whether the row has all n-grams of the text."""
    has_numbers: bool
    """Whether the row has all numbers of the question: with another number it is another question."""

    @classmethod
    def of(cls, entry: Entry, has: Mask, is_missing: Mask, chosen: Mask) -> "Coverage":
        """Measure how much of an item's chosen tokens a row has.

        Args:
            entry: The item.
            has: True for the item's tokens that are in the row.
            is_missing: True for the item's tokens whose n-gram is not in the row.
            chosen: True for the tokens to measure: all, or those of the question.
        """
        weights = (entry.weights * chosen).astype(np.float64)
        distinct, words = float(weights.sum()), float((entry.tokens.evidence * chosen).sum())
        share = 1 - float((weights * ~has).sum()) / distinct if distinct else 0.0
        has_numbers = bool((has | ~entry.tokens.is_number | entry.is_option).all())
        return cls(words, distinct, share, distinct > 0 and not (is_missing & chosen).any(), has_numbers)

    def is_long(self, words: float, distinct: float) -> bool:
        """Return whether the text has `words` words and `distinct` distinct words, or more.

        Shorter texts may be common phrases.
        """
        return self.words >= words and self.distinct >= distinct

    @property
    def is_near(self) -> bool:
        """Whether the row has all numbers, and of the text's words (as `share` counts) NEAR or more.

        False for a text with less than NEAR_WORDS `distinct` words.
        """
        return self.share >= NEAR and self.distinct >= NEAR_WORDS and self.has_numbers


def are_runs(entry: Entry, row: Tokens, chosen: Mask) -> bool:
    """Return whether a row has each of an item's lines as one run of tokens, not in fragments.

    Only lines of more than SIZE and at most `RUN_TOKENS` tokens are checked, and of those only the lines
    with a token that `chosen` marks.
    """
    for line in np.unique(entry.tokens.texts[chosen]):
        tokens = entry.tokens.chosen(entry.tokens.texts == line)
        size = len(tokens)
        if SIZE < size <= RUN_TOKENS and grams(tokens, size)[0] not in grams(row, size):
            return False
    return True


def are_texts(entry: Entry, row: Tokens) -> bool:
    """Return whether each line of an item's question is an entire text of a row: a test for short items.

    False for an item with too few distinctive words.
    """
    if entry.evidence() < DISTINCT_WORDS:
        return False
    texts = {row.hashes[row.texts == text].tobytes() for text in np.unique(row.texts)}
    hashes, lines = entry.tokens.hashes[~entry.is_option], entry.tokens.texts[~entry.is_option]
    return all(hashes[lines == line].tobytes() in texts for line in np.unique(lines))


def has_each_line(entry: Entry, has: Mask) -> bool:
    """Return whether a row has most words of each line of an item's question, apart from short lines.

    `has` marks the item's tokens that the row has.
    """
    lines = np.unique(entry.tokens.texts, return_inverse=True)[1]
    weights = entry.weights * ~entry.is_option
    words, words_in_row = np.bincount(lines, weights), np.bincount(lines, weights * has)
    is_checked = words >= LINE_WORDS
    needed = LINE if is_checked.sum() > 1 else ONLY_LINE
    return bool((words_in_row[is_checked] >= needed * words[is_checked]).all())


def option_words(entry: Entry, has: Mask) -> float:
    """Return the number of words in those of an item's options that a row has completely."""
    lines = np.unique(entry.tokens.texts, return_inverse=True)[1]
    words = np.bincount(lines, entry.tokens.evidence * entry.is_option * (entry.weights > 0))
    return float(words[np.bincount(lines, ~has) == 0].sum())


def longest_run(has: Mask) -> int:
    """Return the length of the longest run of true values in a mask."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], has, [False]])))
    return int((bounds[1::2] - bounds[::2]).max(initial=0))


def kind_of(entry: Entry, row: Tokens) -> str:
    """Return `verbatim` if a row with all of an item has its options in the same order, else `reordered`."""
    firsts = np.flatnonzero(np.diff(entry.tokens.texts, prepend=-1) != 0)
    options = [int(first) for first in firsts if entry.is_option[first] and entry.grams[first]]
    positions = [first_position(entry, first, row) for first in options]
    return "verbatim" if positions == sorted(positions) else "reordered"


def first_position(entry: Entry, first: int, row: Tokens) -> int:
    """Return the index of a row's token at which the first n-gram of an option begins; -1: not in the row.

    `first` is the index of the item's token at which the option begins.
    """
    positions: Numbers = np.flatnonzero(grams(row, int(entry.sizes[first])) == entry.grams[first])
    return int(positions[0]) if len(positions) else -1
