"""The items of one benchmark as tokens, with what tells each of them from the others."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data.contamination.tokens import Floats, Hashes, Numbers, Tokens, Truths, grams, tokenize

SIZE = 3
"""Tokens of a gram; a line with fewer is one gram."""

LONGEST = 20_000
"""Characters of an item that are compared, so that a huge item takes bounded time."""

TEMPLATE_SHARE = 0.1
"""Words that so many items begin or end with belong to the benchmark's prompt."""

FEWEST_ALIKE = 3
"""At least so many items must begin or end alike for that."""

DEEPEST = 60
"""Tokens at either end of a line that are looked at for this."""

Values = np.ndarray[Any, Any]

OPTION = re.compile(r"^\s*[(（\[]?[A-Ja-j][)）\].、:：．]\s*(?=\S)")
"""The letter before an option."""


@dataclass(frozen=True)
class Item:
    """A question with its options; the benchmark's description and few-shot examples are not part of it."""

    id: str
    questions: tuple[str, ...]
    """The question, or the question completed with each choice in turn."""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One wording of an item, as tokens; each line of the question and each option is a text of its own."""

    id: str
    tokens: Tokens
    grams: Hashes
    """Of each position the gram that begins there; 0 if it would reach into the next line."""
    sizes: Numbers
    """Tokens of each gram."""
    weights: Floats
    """What each token says, in words: less if the grams around it are in many items."""
    is_option: Truths

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    def evidence(self, options: bool | None = None) -> float:
        """Return what the item says in words; of the question or the options only if `options` is given."""
        return float(self.weights[slice(None) if options is None else self.is_option == options].sum())


def entries(items: Sequence[Item]) -> list[Entry]:
    """Return the wordings of the items of one benchmark."""
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
    remains = ~(template(tokens, len(items)) & ~is_option)
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
    """Return the lines of a question and its options, each with whether it is an option."""
    lines: list[tuple[str, bool]] = []
    for line in question[:LONGEST].splitlines():
        letter = OPTION.match(line)
        lines.append((line[letter.end() :], True) if letter and lines else (line, False))
    room = max(LONGEST - len(question), 0)
    for option in dict.fromkeys(options):
        lines.append((option[:room], True))
        room -= min(room, len(option))
    return lines


def template(tokens: Tokens, num_items: int) -> Truths:
    """Return which tokens stand in the words that many lines begin or end with, as of one prompt."""
    fewest = max(FEWEST_ALIKE, TEMPLATE_SHARE * num_items)
    beginnings = _shared_beginnings(tokens.hashes, tokens.texts, fewest)
    return beginnings | _shared_beginnings(tokens.hashes[::-1], -tokens.texts[::-1], fewest)[::-1]


def _shared_beginnings(tokens: Hashes, lines: Numbers, fewest: float) -> Truths:
    """Return which tokens begin their line as at least so many other lines begin."""
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
    """Return the gram from each position on and its size: SIZE tokens, or the whole of a shorter line."""
    hashes, sizes = grams(tokens, SIZE), np.full(len(tokens), SIZE, dtype=np.int64)
    starts = np.flatnonzero(np.diff(tokens.texts, prepend=-1))
    lengths = np.diff(starts, append=len(tokens))
    for size in range(1, SIZE):
        short = starts[lengths == size]
        hashes[short] = grams(tokens, size)[short]
        sizes[short] = size
    return hashes, sizes


def distinctness(hashes: Hashes, sizes: Numbers, bounds: Numbers, ids: Sequence[str]) -> Floats:
    """Return for each token 1/n, of the grams around it the one that the fewest items have: n of them."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(ids))}
    owner = np.repeat([numbers[name] for name in ids], bounds[:, 1] - bounds[:, 0])
    known, counts = np.unique(hashes[distinct_pairs(hashes, owner)], return_counts=True)
    of_grams = np.where(hashes == 0, 0.0, 1 / counts[np.searchsorted(known, hashes)])
    return covering(of_grams, sizes).astype(np.float32)


def distinct_pairs(hashes: Hashes, owners: Numbers) -> Numbers:
    """Return the index of the first of each pair of a hash and an owner, ordered by hash.

    Owners must be in ascending order.
    """
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    is_new = np.ones(len(hashes), dtype=bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return order[is_new]


def covering(of_grams: Values, sizes: Numbers) -> Values:
    """Return for each token the largest value of the grams that it is in."""
    best = of_grams.copy()
    for offset in range(1, SIZE):
        reaches = sizes[:-offset] > offset
        best[offset:] = np.maximum(best[offset:], np.where(reaches, of_grams[:-offset], 0))
    return best
