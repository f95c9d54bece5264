"""What letters mean when options are moved: those in the options' own texts, and those in the question."""

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.benchmarks.benchmark_files import Row

_LABEL = re.compile(
    r"\s*(?:[(（\[【<〈]\s*([A-Za-z0-9Ａ-Ｚａ-ｚ０-９])\s*[)）\]】>〉]|([A-Za-z0-9Ａ-Ｚａ-ｚ０-９])\s*[)）\]】.．:：、](?!\d))\s*"
)
"""A letter or digit that an option's text begins with, and its marks: `(A) `, `A. `, `A、`, `【A】`."""
_BY_LETTER = (
    r"(?i:\b(?:options?|choices?|answers?))\s*[(（]?[A-H]\b|选项\s*[(（]?[A-H]"
    r"|(?<![A-Za-z])[(（]?[A-H][)）]?\s*(?:(?i:and|or|nor)|&|,|，|、|和|与|或|及|以及|跟)\s*[(（]?[A-H](?![A-Za-z])"
)
_NAMED = re.compile(_BY_LETTER)
"""A text that names options: `option A`, `both A and B`, `选项A`, `A、C`."""
_OTHERS = re.compile(
    r"(?i:\b(?:of|to) the above\b|\bthe above (?:are|is)\b|\babove (?:options|choices|answers)\b)"
    r"|^\s*(?:以上|上述|上面)|(?:以上|上述|上面)(?:都|皆|均|全|各|所有|选项|说法|答案|选择|两|二|三|四|几)"
    rf"|{_BY_LETTER}"
)
"""An option that speaks of others, by letter or place: `all of the above`, `以上都对`."""
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Private characters, which stand around an option's number where it is looked for in a question."""


def own_letters(choices: Sequence[str]) -> list[str]:
    """The letter of each option: its choice where that is a letter, else A, B, C, ..."""
    found = [re.sub(r"\W", "", unicodedata.normalize("NFKC", choice)).upper() for choice in choices]
    if all(len(letter) == 1 for letter in found):
        return found
    return list(string.ascii_uppercase[: len(choices)])


def moved(texts: Sequence[Any], shift: int, letters: Sequence[str]) -> list[Any]:
    """The options moved on by `shift` letters; where all texts begin with their own letters, these stay.

    Args:
        texts: of the options, in order.
        shift: how many letters.
        letters: of the options.
    """
    labels = _labels(texts, letters)
    bodies = [str(text)[len(label) :] for text, label in zip(texts, labels, strict=True)] if labels else texts
    turned = [bodies[(place - shift) % len(texts)] for place in range(len(texts))]
    return [label + body for label, body in zip(labels, turned, strict=True)] if labels else turned


def speaks_of_others(texts: Sequence[Any], letters: Sequence[str]) -> str | None:
    """The option that names others by their letters or place, and would mean other ones once it is moved."""
    labels = _labels(texts, letters) or [""] * len(texts)
    bodies = (str(text)[len(label) :] for text, label in zip(texts, labels, strict=True))
    return next((body for body in bodies if _OTHERS.search(unicodedata.normalize("NFKC", body))), None)


def names_letters(text: str) -> bool:
    """Whether a question's text names options by their letters: `A and B are both ...`, `选项A`."""
    return _NAMED.search(unicodedata.normalize("NFKC", text)) is not None


def _labels(texts: Sequence[Any], letters: Sequence[str]) -> list[str]:
    """The letter with its marks that each text begins with; empty unless each begins with its own letter."""
    found = [_LABEL.match(str(text)) for text in texts]
    if [_letter(match) for match in found] != list(letters[: len(texts)]):
        return []
    return [match[0] for match in found if match]


def _letter(match: re.Match[str] | None) -> str:
    return unicodedata.normalize("NFKC", match[1] or match[2]).upper() if match else ""


def check_can_move(
    row: Row, options: Sequence[str], letters: Sequence[str], question: Callable[[Row], str]
) -> None:
    """Refuse options whose letters would not be known once they are moved.

    Args:
        row: a question.
        options: the columns that hold the options, or one column that holds a list of them.
        letters: of the options.
        question: renders the question of a row.

    Raises:
        DataError: the question doesn't show the options, or not in their order, or neither it nor they have
            the letters that are asked for.
    """
    texts = texts_of(row, options)
    shown = question(with_texts(row, options, [f"{_OPEN}{number}{_CLOSE}" for number in range(len(texts))]))
    places = [shown.find(f"{_OPEN}{number}{_CLOSE}") for number in range(len(letters))]
    columns = ", ".join(options)
    if -1 in places:
        raise DataError(
            f"{row.where}: evaluate.permutations moves the options ({columns}), but `question` doesn't show "
            f"option {letters[places.index(-1)]} of them (`options` names the columns that it shows)"
        )
    if places != sorted(places):
        raise DataError(
            f"{row.where}: `question` shows the options in another order than `options`: {columns}"
        )
    labelled = [letter for text in texts if (letter := _letter(_LABEL.match(str(text)))) in letters]
    shows_letters = all(
        _ends_with_letter(shown[:place], letter) for place, letter in zip(places, letters, strict=True)
    )
    if not shows_letters and len(labelled) > 1 and not _labels(texts, letters):
        raise DataError(
            f"{row.where}: evaluate.permutations can't move these options, whose own letters are not "
            f"{', '.join(letters)} in this order ({', '.join(repr(str(text)[:20]) for text in texts)})"
        )


def texts_of(row: Row, options: Sequence[str]) -> list[Any]:
    """The options of a question, in order.

    Raises:
        DataError: a column is missing.
    """
    missing = [name for name in options if name not in row.values]
    if missing:
        raise DataError(f"{row.where}: no column {missing[0]!r}, which `options` names")
    if len(options) > 1:
        return [row.values[name] for name in options]
    return list(row.values[options[0]])


def with_texts(row: Row, options: Sequence[str], texts: Sequence[Any]) -> Row:
    """A question with other options."""
    changed = dict(zip(options, texts, strict=True)) if len(options) > 1 else {options[0]: list(texts)}
    return replace(row, values={**row.values, **changed})


def _ends_with_letter(before: str, letter: str) -> bool:
    """Whether a letter with its marks, as in `A. `, is the last thing in a text."""
    words = re.sub(r"[\W_]+$", "", unicodedata.normalize("NFKC", before))
    return words.upper().endswith(letter) and not re.search(r"[A-Za-z0-9]", words[-2:-1])
