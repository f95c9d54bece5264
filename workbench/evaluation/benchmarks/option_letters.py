"""Moves the options of a question between letters, and detects texts that refer to options by letter."""

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
"""Letter or digit with its punctuation at the start of an option's text: `(A) `, `A. `, `A、`, `【A】`."""
_BY_LETTER = (
    r"(?i:\b(?:options?|choices?|answers?))\s*[(（]?[A-H]\b|选项\s*[(（]?[A-H]"
    r"|(?<![A-Za-z])[(（]?[A-H][)）]?\s*(?:(?i:and|or|nor)|&|,|，|、|和|与|或|及|以及|跟)\s*[(（]?[A-H](?![A-Za-z])"
)
_NAMED = re.compile(_BY_LETTER)
"""Text that refers to options by letter: `option A`, `both A and B`, `选项A`, `A、C`."""
_OTHERS = re.compile(
    r"(?i:\b(?:of|to) the above\b|\bthe above (?:are|is)\b|\babove (?:options|choices|answers)\b)"
    r"|^\s*(?:以上|上述|上面)|(?:以上|上述|上面)(?:都|皆|均|全|各|所有|选项|说法|答案|选择|两|二|三|四|几)"
    rf"|{_BY_LETTER}"
)
"""Option that refers to other options, by letter or position: `all of the above`, `以上都对`."""
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Private-use characters around an option's index, by which the option is found in a rendered question."""


def own_letters(choices: Sequence[str]) -> list[str]:
    """Return the options' letters: the choices if each is one letter (`A` or `(A)`), else A, B, C, ..."""
    choice_letters = [re.sub(r"\W", "", unicodedata.normalize("NFKC", choice)).upper() for choice in choices]
    if all(len(letter) == 1 for letter in choice_letters):
        return choice_letters
    return list(string.ascii_uppercase[: len(choices)])


def moved(texts: Sequence[Any], shift: int, letters: Sequence[str]) -> list[Any]:
    """Return the options' texts, moved by `shift` letters: with 1, B gets A's text and A the last letter's.

    If each text starts with its letter, as in `A. Paris`, only the text after the letter moves.

    Args:
        texts: texts of the options, in order.
        shift: number of letters.
        letters: letters of the options.
    """
    labels = _labels(texts, letters)
    bodies = [str(text)[len(label) :] for text, label in zip(texts, labels, strict=True)] if labels else texts
    shifted = [bodies[(index - shift) % len(texts)] for index in range(len(texts))]
    return [label + body for label, body in zip(labels, shifted, strict=True)] if labels else shifted


def speaks_of_others(texts: Sequence[Any], letters: Sequence[str]) -> str | None:
    """Return the text of the first option that refers to other options, as `all of the above`, or None."""
    labels = _labels(texts, letters) or [""] * len(texts)
    bodies = (str(text)[len(label) :] for text, label in zip(texts, labels, strict=True))
    return next((body for body in bodies if _OTHERS.search(unicodedata.normalize("NFKC", body))), None)


def names_letters(text: str) -> bool:
    """Return whether a question refers to options by letter: `A and B are both ...`, `选项A`."""
    return _NAMED.search(unicodedata.normalize("NFKC", text)) is not None


def _labels(texts: Sequence[Any], letters: Sequence[str]) -> list[str]:
    """Return the label that each option's text starts with, such as `A.` and the space after it.

    Return an empty list unless the labels' letters are `letters` in order.
    """
    matches = [_LABEL.match(str(text)) for text in texts]
    if [_letter(match) for match in matches] != list(letters[: len(texts)]):
        return []
    return [match[0] for match in matches if match]


def _letter(match: re.Match[str] | None) -> str:
    return unicodedata.normalize("NFKC", match[1] or match[2]).upper() if match else ""


def check_can_move(
    row: Row, options: Sequence[str], letters: Sequence[str], question: Callable[[Row], str]
) -> None:
    """Check on one row that a benchmark's options can be moved between letters.

    If the prompt shows letters before options, each must be before exactly one option after a move too.

    Args:
        row: row of a question.
        options: columns of the options, or one column with a list of options.
        letters: letters of the options.
        question: renders the question of a row.

    Raises:
        DataError: The question doesn't show all options in their order, or the options start with letters of
            their own that aren't `letters` in order, while the question doesn't show `letters`.
    """
    texts = texts_of(row, options)
    rendered = question(
        with_texts(row, options, [f"{_OPEN}{number}{_CLOSE}" for number in range(len(texts))])
    )
    offsets = [rendered.find(f"{_OPEN}{number}{_CLOSE}") for number in range(len(letters))]
    columns = ", ".join(options)
    if -1 in offsets:
        raise DataError(
            f"{row.where}: evaluate.permutations moves the options ({columns}), but `question` doesn't show "
            f"option {letters[offsets.index(-1)]} (`options` must name the columns that `question` shows)"
        )
    if offsets != sorted(offsets):
        raise DataError(
            f"{row.where}: `question` shows the options in another order than `options`: {columns}"
        )
    labelled = [letter for text in texts if (letter := _letter(_LABEL.match(str(text)))) in letters]
    shows_letters = all(
        _ends_with_letter(rendered[:offset], letter) for offset, letter in zip(offsets, letters, strict=True)
    )
    if not shows_letters and len(labelled) > 1 and not _labels(texts, letters):
        raise DataError(
            f"{row.where}: evaluate.permutations can't move these options, whose own letters are not "
            f"{', '.join(letters)} in this order ({', '.join(repr(str(text)[:20]) for text in texts)})"
        )


def texts_of(row: Row, options: Sequence[str]) -> list[Any]:
    """Return the options of a question, in order.

    Raises:
        DataError: A column is missing.
    """
    missing = [name for name in options if name not in row.values]
    if missing:
        raise DataError(f"{row.where}: no column {missing[0]!r}, which `options` names")
    if len(options) > 1:
        return [row.values[name] for name in options]
    return list(row.values[options[0]])


def with_texts(row: Row, options: Sequence[str], texts: Sequence[Any]) -> Row:
    """Return a copy of a question's row in which `texts` replace the options."""
    columns = dict(zip(options, texts, strict=True)) if len(options) > 1 else {options[0]: list(texts)}
    return replace(row, values={**row.values, **columns})


def _ends_with_letter(before: str, letter: str) -> bool:
    """Return whether a text ends with `letter` as a label, followed by punctuation at most, as in `A. `."""
    words = re.sub(r"[\W_]+$", "", unicodedata.normalize("NFKC", before))
    return words.upper().endswith(letter) and not re.search(r"[A-Za-z0-9]", words[-2:-1])


def check_options(row: Row, columns: Sequence[str], choices: Sequence[str]) -> None:
    """Check that no option of a row is empty, and that there are as many options as choices, if it has both.

    Raises:
        DataError: An option is empty, or the numbers differ.
    """
    texts = [row.values.get(column, "?") for column in columns]  # rendering reports a missing column
    if len(columns) == 1 and isinstance(texts[0], list):
        columns, texts = [columns[0]] * len(texts[0]), texts[0]
    for column, value in zip(columns, texts, strict=True):
        if value is None or not str(value).strip():
            raise DataError(f"{row.where}: column {column!r}, an option of the question, is empty")
    if columns and choices and len(texts) != len(choices):
        letters = ", ".join(choices)
        raise DataError(f"{row.where}: {len(texts)} options for the {len(choices)} letters {letters}")
