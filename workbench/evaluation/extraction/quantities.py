"""Reads a number at a position of a plain text in any notation, and writes it in a normal form."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from workbench.evaluation.extraction import number_words, numerals

_LONGEST = 400
"""Largest number of digits; longer digit sequences are not read as numbers."""
_LARGEST_EXPONENT = 400

_DECIMAL = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{2,3}){0,8},[0-9]{3}(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+")
_DOTTED = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3}){2,8}(?![0-9.])")
"""Thousands separated by points, as in Spanish or German; a single point is a decimal point."""
_LONG_SPACED = re.compile(r"[0-9]{1,3}(?: [0-9]{3}){2,8}(?![0-9])")
_SPACED = re.compile(r"[0-9]{1,3}(?: [0-9]{3}){1,8}(?![0-9])(?:\.[0-9]+)?")
_E_NOTATION = re.compile(r"[eE]([-+]?[0-9]{1,5})(?![0-9A-Za-z])")
_TIMES_TEN = re.compile(r"\s{0,2}[×xX*]\s{0,2}10\s?\^\s?([-+]?[0-9]{1,5})(?![0-9])")
_POWER = re.compile(
    r"(?:\s?\^\s?|的\s?(?=[-+]?[0-9]{1,3}\s?次[方幂]))([-+]?[0-9]{1,3})(?![0-9.])(?:\s?次[方幂])?"
)
_OVER = re.compile(r"\s?/\s?([0-9]{1,100}(?:\.[0-9]{1,100})?)(?![0-9]*\s?/\s?[0-9])")
_PROPER = re.compile(r"\s{1,2}([0-9]{1,100})\s?/\s?([0-9]{1,100})(?!\s?/)")
_SHORT_WHOLE = re.compile("[0-9]{1,100}")
_SCALE = re.compile(r"(?:\s?(hundred|thousand|million|billion|trillion)|(?<=[0-9])(?-i:(k)))\b", re.I)
_SCALES = {
    "k": 10**3,
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_SIGN = re.compile(r"(?:-|\+|负的?|零下|(?:minus|negative)\s)\s?", re.I)
_SIGN_BEFORE = re.compile(r"负的?$|零下$|(?<![\w)%])[-+]$")
_UNIT_OF_THOUSAND = re.compile("千[米克瓦卡赫帕焦伏安]|百分")
_UNIT_POWER = re.compile(r"[A-Za-z]\^$")
_NUMERAL = re.compile(f"[0-9.{numerals.CHARACTERS}]+")
_PLAIN_NUMERAL = re.compile(f"[{numerals.CHARACTERS}]+")
_START = re.compile(f"[0-9{numerals.CHARACTERS}]|\\.[0-9]|百分之")
_PERCENT = re.compile("(?:百分之){1,3}")
_LONGEST_FRACTION = 250
"""Number of characters after 又 in which the fraction of a mixed number is read."""


@dataclass(frozen=True)
class Quantity:
    """Number with its position in the text."""

    value: Fraction
    is_fraction: bool
    """Whether the number is written as a fraction."""
    start: int
    end: int
    has_digits: bool
    """Whether the number is written with digits, not in Chinese numerals only."""

    @property
    def text(self) -> str:
        """Normal form of the number: `-1234.5`, or a reduced fraction if it is written as a fraction."""
        decimal = None if self.is_fraction else as_decimal(self.value)
        return str(self.value) if decimal is None else decimal


def as_decimal(value: Fraction) -> str | None:
    """Return a number as a decimal without trailing zeros; None if it has infinitely many decimal places."""
    cofactor, places = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while cofactor % prime == 0:
            cofactor //= prime
            count += 1
        places = max(places, count)
    if cofactor != 1:
        return None
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def spellings(quantity: Quantity) -> tuple[str, ...]:
    """Return the normal forms of a number: as it is written, then as fraction or decimal (`3/4`, `0.75`)."""
    other_forms = {str(quantity.value), as_decimal(quantity.value)} - {quantity.text, None}
    return (quantity.text, *sorted(text for text in other_forms if text))


def read(text: str, start: int, spaced: bool = False, words: bool = False) -> Quantity | None:
    """Read the number at `start`, including its sign; None if there is no number.

    Args:
        text: a plain text.
        start: position of the number.
        spaced: whether `1 234` is a single number.
        words: whether English number words such as `eighteen` are read.
    """
    sign = _SIGN.match(text, start)
    first = sign.end() if sign else start
    unsigned = _unsigned(text, first, spaced) or (number_words.read(text, first) if words else None)
    if unsigned is None:
        return None
    value, is_fraction, end = unsigned
    negative = sign is not None and sign[0][0] != "+"
    has_digits = any(character.isdecimal() for character in text[first:end])
    return Quantity(-value if negative else value, is_fraction, start, end, has_digits)


def all_in(text: str) -> Iterator[Quantity]:
    """Yield all numbers of a text, in order. A minus between two numbers is not a sign."""
    position = 0
    while (start := _START.search(text, position)) is not None:
        if _UNIT_POWER.search(text, max(0, start.start() - 2), start.start()):
            position = start.end()  # cm^2
            continue
        quantity = read(text, _with_sign(text, start.start()))
        if quantity is None:
            position = _after_unread(text, start.start())
        else:
            yield quantity
            position = quantity.end


def _with_sign(text: str, start: int) -> int:
    """Return the position of the sign before the number at `start`, or `start` if the number has no sign."""
    sign = _SIGN_BEFORE.search(text, max(0, start - 2), start)
    return sign.start() if sign else start


def _after_unread(text: str, start: int) -> int:
    """Return the position after the characters at `start`, which look like a number but can't be read."""
    run = _NUMERAL.match(text, start)
    return run.end() if run else start + 1


def _unsigned(text: str, start: int, spaced: bool) -> tuple[Fraction, bool, int] | None:
    """Read a number without sign: value, whether it is a fraction, and end position; or None."""
    if percent := _PERCENT.match(text, start):
        start = percent.end()
    if _PLAIN_NUMERAL.match(text, start):
        return _chinese(text, start)
    return _digits(text, start, spaced)


def _chinese(text: str, start: int) -> tuple[Fraction, bool, int] | None:
    """Read a number in Chinese numerals: 三十五, 四分之三, 三又四分之一, 一半."""
    if text.startswith("一半", start):
        return Fraction(1, 2), True, start + 2
    run = _PLAIN_NUMERAL.match(text, start)
    numeral = run[0].rstrip("点點") if run else ""  # 八点 is a time
    value = numerals.value(numeral)
    return None if value is None else _with_chinese_fraction(text, value, start + len(numeral))


def _with_chinese_fraction(text: str, value: Fraction, end: int) -> tuple[Fraction, bool, int]:
    """Read what follows a number that ends at `end` as a fraction (三分之二) or mixed number (三又四分之一).

    Return value, whether it is a fraction, and end position; without such a rest, those of the number.
    """
    if text.startswith("分之", end):
        numerator = _numerator(text, end + 2)
        if numerator is not None and value:
            return numerator[0] / value, True, numerator[1]
    if text.startswith("又", end):
        # Without 又 inside: a looping model writes thousands, and each would be read within the previous one.
        fraction = _unsigned(text[end + 1 : end + 1 + _LONGEST_FRACTION].partition("又")[0], 0, False)
        if fraction is not None and fraction[1]:
            return value + fraction[0], True, end + 1 + fraction[2]
    return value, False, end


def _numerator(text: str, start: int) -> tuple[Fraction, int] | None:
    run = _PLAIN_NUMERAL.match(text, start) or _SHORT_WHOLE.match(text, start)
    if run is None:
        return None
    value = Fraction(run[0]) if run[0].isdecimal() and run[0].isascii() else numerals.value(run[0])
    return None if value is None else (value, run.end())


def _digits(text: str, start: int, spaced: bool) -> tuple[Fraction, bool, int] | None:
    """Read a number that starts with a digit, with its scale (万, million), exponent or fraction.

    Return value, whether it is a fraction, and end position; None if no number can be read.
    """
    digits = (_SPACED if spaced else _LONG_SPACED).match(text, start) or _DECIMAL.match(text, start)
    dotted = _DOTTED.match(text, start)
    if dotted is not None:
        return Fraction(dotted[0].replace(".", "")), False, dotted.end()
    if digits is None or len(digits[0]) > _LONGEST:
        return None
    run = _NUMERAL.match(text, start)
    is_unit = _UNIT_OF_THOUSAND.match(text, digits.end())
    if run and run.end() > digits.end() and text[digits.end()] in numerals.CHARACTERS and not is_unit:
        value = numerals.value(run[0].replace(",", ""))
        if value is not None:
            return value, False, run.end()
    value = Fraction(re.sub("[, ]", "", digits[0]))
    return _scaled(text, value, digits.end()) or _over(text, value, digits.end())


def _scaled(text: str, value: Fraction, end: int) -> tuple[Fraction, bool, int] | None:
    """Read what scales a number that ends at `end`: exponent (`e5`), power (`^2`), or a word (`million`).

    Return value, whether it is a fraction, and end position; None if nothing scales the number.
    """
    if power := (_E_NOTATION.match(text, end) or _TIMES_TEN.match(text, end)):
        exponent = int(power[1])
        fits = abs(exponent) <= _LARGEST_EXPONENT
        return (value * Fraction(10) ** exponent, False, power.end()) if fits else None
    if power := _POWER.match(text, end):
        exponent = int(power[1])
        fits = value != 0 and abs(exponent) * len(str(value)) <= _LARGEST_EXPONENT
        return (value**exponent, value != 10 and exponent < 0, power.end()) if fits else None
    if scale := _SCALE.match(text, end):
        return value * _SCALES[(scale[1] or scale[2]).lower()], False, scale.end()
    return None


def _over(text: str, value: Fraction, end: int) -> tuple[Fraction, bool, int]:
    """Read the rest of a fraction (`/4`) or mixed number (` 3/4`) after a number that ends at `end`.

    Return value, whether it is a fraction, and end position; without such a rest, those of the number.
    """
    over = _OVER.match(text, end)
    if over and Fraction(over[1]):
        return value / Fraction(over[1]), True, over.end()
    proper = _PROPER.match(text, end)
    if proper and value.denominator == 1 and 0 < int(proper[1]) < int(proper[2]):
        return value + Fraction(int(proper[1]), int(proper[2])), True, proper.end()
    return _with_chinese_fraction(text, value, end)
