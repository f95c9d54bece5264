"""Finds the options that a generated text repeats from its question: their letters aren't answers."""

import re
from dataclasses import dataclass
from functools import lru_cache

_LABEL = re.compile(r"^[ \t>#\-]{0,8}[(\[【]?([A-Z])(?:[)\]】]?[.、:]|[)\]】]|(?=[ \t]{0,8}$))", re.M)
"""The letter of an option at the start of a line: `A. `, `(A) `, `A、`, or alone on its line."""


@dataclass(frozen=True)
class OptionList:
    """Options on consecutive lines, with the letters from the first one on, in order."""

    starts: tuple[int, ...]
    """Positions of the letters."""
    end: int
    """End of the last option's line."""
    is_certain: bool
    """Whether it can be nothing but a list: it has all letters, or more than two."""


@lru_cache(maxsize=16)
def option_lists(text: str, letters: str) -> tuple[OptionList, ...]:
    """Return the lists of options in a plain text.

    A list has at least two options, of one line each; blank lines may lie between. If the first letter is
    alone on its line, it is a list only if all letters are there, each alone on its line.

    Args:
        text: plain text.
        letters: letters of the choices.
    """
    lists: list[OptionList] = []
    labels: list[re.Match[str]] = []
    for label in _LABEL.finditer(text):
        follows = bool(labels) and not text[_line_end(text, labels[-1]) : label.start()].strip()
        if not (follows and letters[len(labels) : len(labels) + 1] == label[1]):
            lists += _list_of(labels, text, letters)
            labels = []
        if labels or letters.startswith(label[1]):
            labels.append(label)
    return (*lists, *_list_of(labels, text, letters))


def is_restated(text: str, letters: str, position: int, *, certainly: bool) -> bool:
    """Return whether the letter at a position is that of an option in a list.

    Args:
        text: plain text.
        letters: letters of the choices.
        position: index in `text`.
        certainly: whether only lists count that can be nothing else.
    """
    return position in _starts(text, letters, certainly)


@lru_cache(maxsize=32)
def _starts(text: str, letters: str, certainly: bool) -> frozenset[int]:
    return frozenset(
        start
        for options in option_lists(text, letters)
        if options.is_certain or not certainly
        for start in options.starts
    )


def _list_of(labels: "list[re.Match[str]]", text: str, letters: str) -> list[OptionList]:
    """Return the list that consecutive labels make up; no list if they are too few."""
    are_bare = [not text[label.end() : _line_end(text, label)].strip() for label in labels]
    is_whole = len(labels) == len(letters)
    if len(labels) < 2 or (are_bare[0] and not (all(are_bare) and is_whole)):
        return []
    starts = tuple(label.start(1) for label in labels)
    return [OptionList(starts, _line_end(text, labels[-1]), is_whole or len(labels) > 2)]


def _line_end(text: str, label: "re.Match[str]") -> int:
    end = text.find("\n", label.end())
    return len(text) if end < 0 else end
