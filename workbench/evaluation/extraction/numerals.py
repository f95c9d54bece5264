"""Reads Chinese numerals, also mixed with digits: 三十五, 两千三, 3万5千, 二〇二四, 零点五."""

import re
from fractions import Fraction

CHARACTERS = "零〇一二两三四五六七八九十百千万亿廿卅点壹贰叁肆伍陆柒捌玖拾佰仟萬億貳參陸兩點"
"""All characters of Chinese numerals."""

_FORMS = str.maketrans(
    "〇两壹贰叁肆伍陆柒捌玖拾佰仟萬億貳參陸兩點",
    "零二一二三四五六七八九十百千万亿二三六二点",
)
_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")}
_SMALL_UNITS = {"十": 10, "百": 100, "千": 1000}
_LARGE_UNITS = {"万": 10**4, "亿": 10**8}
_TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?|.", re.S)
_LONGEST = 100


def value(numeral: str) -> Fraction | None:
    """Return the value of a numeral; None if the characters are not a valid numeral (万一, 千万, 三四)."""
    if not 0 < len(numeral) <= _LONGEST:
        return None
    numeral = numeral.translate(_FORMS).replace("廿", "二十").replace("卅", "三十")
    integer, point, decimals = numeral.partition("点")
    number = _integer(_TOKEN.findall(integer))
    if number is None or not point:
        return number
    if not decimals or not all(character in _DIGITS for character in decimals):
        return None
    digits = "".join(str(_DIGITS[character]) for character in decimals)
    return number + Fraction(int(digits), 10 ** len(digits))


def _integer(tokens: list[str]) -> Fraction | None:
    if not tokens:
        return None
    if all(token in _DIGITS for token in tokens):
        return _digit_by_digit(tokens)
    return _Sum().of(tokens)


def _digit_by_digit(tokens: list[str]) -> Fraction | None:
    """Read digits without units: `二〇二四` is 2024; `三四` means three or four and gives None."""
    if len(tokens) == 2 and "零" not in tokens:
        return None
    return Fraction(int("".join(str(_DIGITS[token]) for token in tokens)))


class _Sum:
    """Adds up the tokens of a numeral with units."""

    def __init__(self) -> None:
        self.total = Fraction(0)
        self.section = Fraction(0)
        """Sum since the last 万 or 亿."""
        self.digit: Fraction | None = None
        self.unit = 0
        """The last unit, if only a digit has followed it; else 0."""
        self.smallest = 10**4
        """The last small unit of the section, in which units decrease."""

    def of(self, tokens: list[str]) -> Fraction | None:
        """Return the value of a numeral's tokens (digits and units); None if their order is invalid."""
        if not all(self._add(token) for token in tokens):
            return None
        if self.digit is not None and self.unit >= 100:
            self.digit *= self.unit // 10  # 三万五 is 35,000
        return self.total + self.section + (self.digit or 0)

    def _add(self, token: str) -> bool:
        """Add a digit or unit to the sum; return whether the token may follow the tokens before it."""
        if token == "零":
            self.unit = 0
            return self.digit is None
        if token in _SMALL_UNITS:
            return self._add_small(_SMALL_UNITS[token])
        if token in _LARGE_UNITS:
            return self._add_large(_LARGE_UNITS[token])
        if self.digit is not None or not (token in _DIGITS or token[0].isdecimal()):
            return False
        if token not in _DIGITS:
            self.unit = 0 if len(token) > 1 else self.unit
        self.digit = Fraction(_DIGITS[token]) if token in _DIGITS else Fraction(token)
        return True

    def _add_small(self, unit: int) -> bool:
        if unit >= self.smallest or (self.digit is None and unit != 10):
            return False
        self.section += (1 if self.digit is None else self.digit) * unit
        self.digit, self.unit, self.smallest = None, unit, unit
        return True

    def _add_large(self, unit: int) -> bool:
        self.section += self.digit or 0
        if not self.section and not self.total:
            return False
        if unit == _LARGE_UNITS["亿"] or not self.section:
            self.total = (self.total + self.section) * unit
        else:
            self.total += self.section * unit
        self.section, self.digit, self.unit, self.smallest = Fraction(0), None, unit, 10**4
        return True
