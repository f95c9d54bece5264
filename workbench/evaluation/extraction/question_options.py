"""Finds the options of a question in its text, as the prompt has it."""

import re
from bisect import bisect_left
from functools import lru_cache

from workbench.evaluation.extraction import cleaning

_LABELS = (
    r"(?m:^)[ \t]{0,4}[(\[]?%s[)\]]?(?:[.、:)]|[ \t]|(?<=[)\]]))",
    r"\(%s\)",
    r"(?<![A-Za-z0-9])%s[.、]",
)
"""How a question may label an option: at the start of a line, in parentheses or with a point anywhere."""


@lru_cache(maxsize=64)
def options_of(question: str, letters: str) -> tuple[str, ...]:
    """Return the plain texts of a question's options, in the order of their letters; empty: it lists none.

    Of several lists the longest counts, and of these the last. The last option ends with its line.

    Args:
        question: text of the question with its options, as the prompt has it.
        letters: letters of the choices.
    """
    text = plain(question)
    for label in _LABELS:
        if labels := _longest_row([list(re.finditer(label % letter, text)) for letter in letters]):
            last = text.find("\n", labels[-1].end())
            ends = [*(match.start() for match in labels[1:]), len(text) if last < 0 else last]
            return tuple(text[match.end() : end].strip() for match, end in zip(labels, ends, strict=True))
    return ()


def plain(text: str) -> str:
    """Return the text in plain characters (`cleaning.normalized`), without Markdown's emphasis."""
    return cleaning.normalized(text).replace("*", "").replace("`", "").replace("__", "").replace("_", " ")


def _longest_row(labels: "list[list[re.Match[str]]]") -> "list[re.Match[str]]":
    """Return labels of the first letters that follow each other, one of each letter; empty: fewer than two.

    Args:
        labels: matches of each letter's label.
    """
    longest: list[re.Match[str]] = []
    starts = [[match.start() for match in candidates] for candidates in labels]
    for first in reversed(labels[0] if labels else []):
        row = [first]
        for candidates, positions in zip(labels[1:], starts[1:], strict=True):
            following = bisect_left(positions, row[-1].end())
            if following == len(candidates):
                break
            row.append(candidates[following])
        if len(row) > max(len(longest), 1):
            longest = row
    return longest
