"""Detects whether questions are Chinese or English by the share of Chinese characters."""

from collections.abc import Iterable

_HAN_SHARE = 0.2
"""Questions with a larger share of Chinese characters among their letters count as Chinese."""
MOST_LETTERS = 2000
"""Number of characters at the start of each question that are examined."""


def language(questions: Iterable[str]) -> str:
    """Return `zh` if more than a fifth of the questions' letters are Chinese characters, else `en`.

    Only the first `MOST_LETTERS` characters of each question count.
    """
    letters = [letter for question in questions for letter in question[:MOST_LETTERS] if letter.isalpha()]
    han = sum("\u4e00" <= letter <= "\u9fff" for letter in letters)
    return "zh" if han > _HAN_SHARE * len(letters) else "en"
