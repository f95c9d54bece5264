"""Splits texts into words and Chinese characters, and hashes n-grams of them, with numpy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data.contamination.normalize import DELETED, SINGLE, WORD, Codes, Kinds, fold_table

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""One boolean per token, unless its docstring says otherwise."""
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

PRIME, FACTOR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
SHIFT = np.uint64(29)

POSITIONS = 64
"""Number of characters of a word that are hashed with their position; from the 65th on positions repeat."""

HAN_EVIDENCE = 0.5
"""Weight of a Chinese character; a word has the weight 1."""


def _powers() -> Hashes:
    powers = np.full(POSITIONS, PRIME, dtype=np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


POWERS = _powers()


@dataclass(frozen=True)
class Tokens:
    """The tokens of several texts as arrays.

    A token is a word, a mathematical sign, or a character of Chinese, Thai or another script without spaces.
    """

    hashes: Hashes
    texts: Numbers
    """For each token the index of its text; ascending."""
    evidence: Floats
    """1 for a word, 0.5 for a single character."""
    is_number: Mask
    """Whether each token begins with a digit."""

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.hashes)

    def part(self, start: int, end: int) -> "Tokens":
        """Return the tokens from index `start` to before `end`."""
        return self.chosen(slice(start, end))

    def chosen(self, indices: slice | Mask) -> "Tokens":
        """Return the tokens that a slice or a boolean mask selects."""
        return Tokens(
            self.hashes[indices], self.texts[indices], self.evidence[indices], self.is_number[indices]
        )


def tokenize(texts: Sequence[str]) -> Tokens:
    """Split texts into words and, in scripts without spaces such as Chinese, into characters; hash them.

    Tokens that differ only in case, width, accents or traditional forms get the same hash. Punctuation is
    left out, mathematical signs are tokens.
    """
    table = fold_table()
    codes = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = table.kinds[codes]
    ends = np.cumsum(np.fromiter((len(text) + 1 for text in texts), dtype=np.int64, count=len(texts)))
    if (kinds == DELETED).any():
        remains = kinds != DELETED
        ends = np.concatenate([[0], np.cumsum(remains)])[np.minimum(ends, len(remains))]
        codes, kinds = codes[remains], kinds[remains]
    codes = table.codes[codes]
    is_word = kinds == WORD
    is_start = is_word.copy()
    is_start[1:] &= ~is_word[:-1]
    is_start |= kinds == SINGLE
    starts = np.flatnonzero(is_start)
    evidence = np.where(kinds[starts] == SINGLE, HAN_EVIDENCE, 1.0).astype(np.float32)
    is_number = (codes[starts] >= ord("0")) & (codes[starts] <= ord("9"))
    numbers = np.searchsorted(ends, starts, side="right")
    return Tokens(_token_hashes(codes, kinds, starts), numbers, evidence, is_number)


def _token_hashes(codes: Codes, kinds: Kinds, starts: Numbers) -> Hashes:
    """Hash each token from its characters, each with its position in the token."""
    if not len(starts):
        return np.zeros(0, np.uint64)
    values = mixed(codes[starts[0] :].astype(np.uint64))
    lengths = np.diff(starts, append=len(codes))
    offsets = np.arange(starts[0], len(codes)) - np.repeat(starts, lengths)
    values *= POWERS[offsets % POSITIONS]
    values[kinds[starts[0] :] < WORD] = 0
    return mixed(np.add.reduceat(values, starts - starts[0]))


def mixed(values: Hashes) -> Hashes:
    """Scramble the bits of 64-bit numbers, so that similar numbers get different hashes."""
    values = values * FACTOR
    values ^= values >> SHIFT
    return values * PRIME


def grams(tokens: Tokens, size: int) -> Hashes:
    """Return for each token the hash of the n-gram of `size` tokens that begins there.

    0 marks an n-gram that would reach into the next text.
    """
    count = len(tokens) - size + 1
    hashes = np.zeros(len(tokens), dtype=np.uint64)
    if count <= 0:
        return hashes
    sums = np.full(count, size, dtype=np.uint64)
    for offset in range(size):
        sums *= PRIME
        sums += tokens.hashes[offset : offset + count]
    same = tokens.texts[:count] == tokens.texts[size - 1 :]
    hashes[:count] = np.where(same, mixed(sums), 0)
    return hashes
