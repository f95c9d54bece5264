"""Converts the items of one benchmark to tokens, weighted by how few other items have them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data.contamination.tokens import Floats, Hashes, Mask, Numbers, Tokens, grams, tokenize

SIZE = 3
"""Tokens of an n-gram; a line with fewer tokens is one n-gram."""

LONGEST = 20_000
"""Characters of an item that are compared; the rest is ignored, so that a huge item takes bounded time."""

TEMPLATE_SHARE = 0.1
"""Share of the items that must begin or end with the same words, for the words to be part of a prompt."""

FEWEST_ALIKE = 3
"""Least number of items that must begin or end with the same words, for the words to be part of a prompt."""

DEEPEST = 60
"""Tokens at each end of a line that are compared with other lines to find the words of a prompt."""

Values = np.ndarray[Any, Any]

OPTION = re.compile(r"^\s*[(（\[]?[A-Ja-j][)）\].、:：．]\s*(?=\S)")
"""Matches the letter before an option, as in `A. ` or `(b) `."""


@dataclass(frozen=True)
class Item:
    """A question with its options; the benchmark's description and few-shot examples are not part of it."""

    id: str
    questions: tuple[str, ...]
    """The question, or the question completed with each choice in turn."""
    options: tuple[str, ...] = ()
    """Texts of the choices; empty: the item has none, or they are single letters."""


@dataclass(frozen=True)
class Entry:
    """One wording of an item, as tokens; each line of the question and each option is a separate text."""

    id: str
    tokens: Tokens
    grams: Hashes
    """For each token the hash of the n-gram that begins there, or 0 if it would reach into the next line."""
    sizes: Numbers
    """For each token the number of tokens of the n-gram that begins there."""
    weights: Floats
    """For each token 1 (Chinese character: 0.5), divided by the number of items with its rarest n-gram."""
    is_option: Mask
    """Whether each token belongs to an option."""

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    def evidence(self) -> float:
        """Return the sum of the tokens' weights: how many distinctive words the item has."""
        return float(self.weights.sum())


def entries(items: Sequence[Item]) -> list[Entry]:
    """Tokenize the items of one benchmark: an entry for each of an item's questions, in order.

    Words with which many lines begin or end are left out of questions, see `is_template`.
    """
    owners: list[tuple[str, int, int]] = []
    texts: list[str] = []
    are_options: list[bool] = []
    for item in items:
        for question in item.questions:
            lines = split_lines(question, item.options)
            owners.append((item.id, len(texts), len(texts) + len(lines)))
            texts += [line for line, _ in lines]
            are_options += [is_option for _, is_option in lines]
    tokens = tokenize(texts)
    is_option = np.array(are_options, dtype=bool)[tokens.texts]
    remains = ~(is_template(tokens, len(items)) & ~is_option)
    tokens, is_option = tokens.chosen(remains), is_option[remains]
    hashes, sizes = line_grams(tokens)
    bounds = np.searchsorted(tokens.texts, [bound for _, *both in owners for bound in both]).reshape(-1, 2)
    weights = tokens.evidence * distinctness(hashes, sizes, bounds, [name for name, *_ in owners])
    return [
        Entry(
            name,
            tokens.part(start, end),
            hashes[start:end],
            sizes[start:end],
            weights[start:end],
            is_option[start:end],
        )
        for (name, *_), (start, end) in zip(owners, bounds.tolist(), strict=True)
    ]


def split_lines(question: str, options: Sequence[str]) -> list[tuple[str, bool]]:
    """Return each line of a question and each option as (text, whether it is an option).

    The letter before an option is removed, and text after LONGEST characters is cut off.
    """
    lines: list[tuple[str, bool]] = []
    for line in question[:LONGEST].splitlines():
        letter = OPTION.match(line)
        lines.append((line[letter.end() :], True) if letter and lines else (line, False))
    room = max(LONGEST - len(question), 0)
    for option in dict.fromkeys(options):
        lines.append((option[:room], True))
        room -= min(room, len(option))
    return lines


def is_template(tokens: Tokens, num_items: int) -> Mask:
    """Return a mask, true for the tokens that many lines begin or end with: they belong to the prompt.

    `num_items` is the number of items of `tokens`; TEMPLATE_SHARE of it says what is many.
    """
    fewest = max(FEWEST_ALIKE, TEMPLATE_SHARE * num_items)
    in_prefixes = _in_shared_prefixes(tokens.hashes, tokens.texts, fewest)
    return in_prefixes | _in_shared_prefixes(tokens.hashes[::-1], -tokens.texts[::-1], fewest)[::-1]


def _in_shared_prefixes(tokens: Hashes, lines: Numbers, fewest: float) -> Mask:
    """Return a mask, true for tokens in beginnings that at least `fewest` lines have in common."""
    shared = np.zeros(len(tokens), dtype=bool)
    starts = np.flatnonzero(np.diff(lines, prepend=np.iinfo(np.int64).min))
    lengths = np.diff(starts, append=len(tokens))
    hashes = np.zeros(len(starts), dtype=np.uint64)
    for depth in range(DEEPEST):
        longer = lengths > depth
        starts, lengths, hashes = starts[longer], lengths[longer], hashes[longer]
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + tokens[starts + depth]
        _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        alike = counts[inverse] >= fewest
        if not alike.any():
            break
        starts, lengths, hashes = starts[alike], lengths[alike], hashes[alike]
        shared[starts + depth] = True
    return shared


def line_grams(tokens: Tokens) -> tuple[Hashes, Numbers]:
    """Return for each token the hash and the size of the n-gram that begins there.

    The size is SIZE tokens; a line of fewer tokens is one n-gram.
    """
    hashes, sizes = grams(tokens, SIZE), np.full(len(tokens), SIZE, dtype=np.int64)
    starts = np.flatnonzero(np.diff(tokens.texts, prepend=-1))
    lengths = np.diff(starts, append=len(tokens))
    for size in range(1, SIZE):
        short = starts[lengths == size]
        hashes[short] = grams(tokens, size)[short]
        sizes[short] = size
    return hashes, sizes


def distinctness(hashes: Hashes, sizes: Numbers, bounds: Numbers, ids: Sequence[str]) -> Floats:
    """Return 1/n for each token, where n items have the rarest n-gram that contains the token.

    Args:
        hashes: For each token the hash of the n-gram that begins there, or 0.
        sizes: For each token the size of this n-gram.
        bounds: For each entry the indices of its first token and of its last + 1.
        ids: For each entry the id of its item.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(ids))}
    owner = np.repeat([numbers[name] for name in ids], bounds[:, 1] - bounds[:, 0])
    known, counts = np.unique(hashes[distinct_pairs(hashes, owner)], return_counts=True)
    of_grams = np.where(hashes == 0, 0.0, 1 / counts[np.searchsorted(known, hashes)])
    return covering(of_grams, sizes).astype(np.float32)


def distinct_pairs(hashes: Hashes, owners: Numbers) -> Numbers:
    """Return the index of the first occurrence of each distinct pair (hash, owner), ordered by hash.

    Owners must be in ascending order.
    """
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    is_new = np.ones(len(hashes), dtype=bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return order[is_new]


def covering(of_grams: Values, sizes: Numbers) -> Values:
    """Return for each token the largest of the values `of_grams` of the n-grams that contain the token.

    `of_grams` and `sizes` give the value and the size of the n-gram that begins at each token.
    """
    best = of_grams.copy()
    for offset in range(1, SIZE):
        reaches = sizes[:-offset] > offset
        best[offset:] = np.maximum(best[offset:], np.where(reaches, of_grams[:-offset], 0))
    return best
