"""Reads English number words: eighteen, twenty-one, three hundred and five, two thirds."""

import re
from fractions import Fraction

_ONES = dict(
    zip(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
        + ["twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"],
        range(20),
        strict=True,
    )
)
_TENS = dict(
    zip(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
        range(20, 100, 10),
        strict=True,
    )
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_DENOMINATORS = {
    "half": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
}
_WORD = "|".join([*_ONES, *_TENS, "hundred", *_SCALES])
_NUMBER = re.compile(rf"(?:{_WORD})(?:(?:-|\s(?:and\s)?)(?:{_WORD})\b){{0,16}}(?![-\w])(?!\sof\b)", re.I)
_DENOMINATOR = re.compile(rf"[-\s]({'|'.join(_DENOMINATORS)}|halve)s?\b", re.I)


def read(text: str, start: int) -> tuple[Fraction, bool, int] | None:
    """Read the number words at `start`: value, whether it is a fraction, and end position; or None."""
    words = _NUMBER.match(text, start)
    if words is None:
        return None
    value = _value(re.findall(r"[a-z]+", words[0].lower()))
    if value is None:
        return None
    denominator = _DENOMINATOR.match(text, words.end())
    if denominator:
        return Fraction(value, _DENOMINATORS.get(denominator[1].lower(), 2)), True, denominator.end()
    return Fraction(value), False, words.end()


def _value(words: list[str]) -> int | None:
    """Return the number that words spell: `three hundred and five` is 305. None if their order is invalid."""
    total, section, last = 0, 0, 10**15
    for word in words:
        if word == "and":
            continue
        if word in _SCALES:
            total, section, last = total + (section or 1) * _SCALES[word], 0, 10**15
        elif word == "hundred":
            if not 0 < section < 100:
                return None
            section, last = section * 100, 100
        else:
            number = _ONES.get(word, _TENS.get(word, 0))
            if last < 20 or (last < 100 and number > 9):
                return None
            section, last = section + number, number if number < 20 else 99
    return total + section
