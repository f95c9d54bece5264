"""Folds characters, so that texts that differ in case, width, accents or traditional characters are equal."""

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import opencc

Codes = np.ndarray[Any, np.dtype[np.uint32]]
Kinds = np.ndarray[Any, np.dtype[np.uint8]]

SEPARATOR, DELETED, WORD, SINGLE = 0, 1, 2, 3
"""Kinds of characters: separator of words, ignored, part of a word, a word by itself."""

HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0x20000, 0x323B0))
"""Ranges of Chinese characters (first code point, last + 1)."""

SINGLES = (*HAN, (0x3041, 0x3100), (0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800))
"""Ranges of scripts without spaces between words: Chinese, kana, Thai and Lao, Burmese, Khmer."""

IDENTICAL = (*HAN, (0xAC00, 0xD7A4))
"""Ranges that need no folding: Hangul, and Chinese, where only traditional characters are folded."""

UNUSED = (0xD800, 0xF900)
"""Range of surrogates and of private use."""

END = 0x110000
FEW_PLANES = 0x20000
"""First code point of those that aren't folded one by one: Chinese, and compatibility forms."""

APOSTROPHES = "'\u2019\u02bc"
MINUS_SIGNS = "\u2212|~<>"
"""Mathematical signs that separate words, because they are also used as punctuation."""


@dataclass(frozen=True)
class FoldTable:
    """For each code point its folded code point, and its kind (SEPARATOR, DELETED, WORD or SINGLE)."""

    codes: Codes
    kinds: Kinds


def normalized(text: str) -> str:
    """Return a text without white space, with width (NFKC) and case normalized."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


@cache
def fold_table() -> FoldTable:
    """Return the table for all code points; it is built on the first call, in about a fifth of a second."""
    codes = np.arange(END, dtype=np.uint32)
    kinds = np.full(END, SEPARATOR, dtype=np.uint8)
    for code in range(FEW_PLANES):
        if not any(first <= code < end for first, end in (*IDENTICAL, UNUSED)):
            codes[code], kinds[code] = folded(chr(code))
    for first, end in IDENTICAL:
        kinds[first:end] = WORD
    for first, end in HAN:
        codes[first:end] = simplified(first, end)
    for first, end in SINGLES:
        kinds[first:end] = np.where(kinds[first:end] == WORD, SINGLE, kinds[first:end])
    return FoldTable(codes, np.where(kinds == WORD, np.maximum(kinds, kinds[codes]), kinds))


def folded(character: str) -> tuple[int, int]:
    """Return the folded code point of a character, and its kind: SEPARATOR, DELETED, WORD or SINGLE.

    A character that stands for several characters (a ligature) is folded to the first of them.
    """
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", character).casefold())[:1]
    if plain in APOSTROPHES or unicodedata.combining(character):
        return 0, DELETED
    category = unicodedata.category(plain)
    if category in ("Mn", "Cf"):
        return 0, DELETED
    if category == "Sm" and plain not in MINUS_SIGNS:
        return ord(plain), SINGLE
    is_word = category[0] in "LNM"
    return (ord(plain), WORD) if is_word else (0, SEPARATOR)


def simplified(first: int, end: int) -> Codes:
    """Return the simplified forms (OpenCC, t2s) of the characters from code point `first` to `end` - 1."""
    characters = "\n".join(map(chr, range(first, end)))
    lines = opencc.OpenCC("t2s").convert(characters).split("\n")
    return np.array([ord(line[0]) for line in lines], dtype=np.uint32)
