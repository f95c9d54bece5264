"""Finds the answer in a generated text, and what it is compared with in the target: one rule for both."""

import re
import string
import unicodedata

from workbench import patterns
from workbench.config.benchmark import Extract, GenerationConfig
from workbench.errors import ConfigError
from workbench.evaluation.extraction import numbers, quantities
from workbench.evaluation.extraction.letters import letter
from workbench.evaluation.extraction.numbers import number

__all__ = [
    "extract",
    "last_number",
    "last_number_as_written",
    "letter",
    "number",
    "number_after_marks",
    "references",
    "without_signs",
]


EXTRACTION_VERSION = "4"
"""Another one whenever a number or letter is found otherwise than before: such scores don't compare."""


def extract(
    text: str, how: GenerationConfig, letters: str = string.ascii_uppercase, several: bool = False
) -> str | None:
    """The answer in a generated text, or None where there is none.

    Args:
        text: what a model wrote.
        how: what of it is the answer.
        letters: the choices' letters, for `extract: letter`.
        several: whether the answer may be several letters.
    """
    if how.extract == Extract.number:
        return number(text)
    if how.extract == Extract.letter:
        return letter(text, letters, several)
    if how.extract == Extract.pattern:
        return last_match(how.pattern, text)
    return text.strip()


def references(
    target: str, how: GenerationConfig, letters: str = string.ascii_uppercase
) -> tuple[str, ...] | None:
    """The texts that an extracted answer is compared with, from a target; None where none can equal it.

    A number has all its spellings, `3/4` and `0.75`. A pattern may be made for generated texts alone: a
    target that it doesn't match is taken as it is.
    """
    if how.extract == Extract.number:
        quantity = numbers.only(target)
        return None if quantity is None else quantities.spellings(quantity)
    if how.extract == Extract.letter:
        found = _letters_alone(target, letters) or letter(target, letters, several=True)
        return None if found is None else (found,)
    if how.extract == Extract.pattern:
        matched = last_match(how.pattern, target)
        return (matched if matched is not None else target,)
    return (target,)


def _letters_alone(target: str, letters: str) -> str | None:
    """The letters of a target that is nothing else: `BD`, `B D`, `B、D`."""
    names = re.sub(r"[\s,;、/|和与及]+", "", unicodedata.normalize("NFKC", target))
    return "".join(sorted(set(names))) if names and set(names) <= set(letters) else None


def last_match(pattern: str, text: str) -> str | None:
    """The first group of a pattern's last match that took part in it; all of it where there are no groups.

    Raises:
        ConfigError: the pattern takes too long over the text.
    """
    try:
        return patterns.last_match(pattern, text)
    except patterns.PatternError as error:
        raise ConfigError(f"generation.pattern: {error}") from error


def number_after_marks(text: str) -> str:
    """The number after the first `####`. Source: lm-evaluation-harness 0.4.13, tasks/gsm8k, strict-match."""
    found = re.search(r"#### (-?[0-9.,]+)", text)
    return without_signs(found.group(1)) if found else "[invalid]"


def last_number(text: str) -> str:
    """The last number. Source: lm-evaluation-harness 0.4.13, tasks/gsm8k, flexible-extract."""
    return without_signs(last_number_as_written(text))


def last_number_as_written(text: str) -> str:
    """The last number with its signs. Source: lm-evaluation-harness 0.4.13, tasks/mgsm, flexible-extract."""
    numbers_in_text = re.findall(r"-?[$0-9.,]{2,}|-?[0-9]+", text)
    return numbers_in_text[-1] if numbers_in_text else "[invalid]"


def without_signs(number: str) -> str:
    """A number without commas, dollar signs and a full stop at the end, as the harness compares numbers.

    Source: lm-evaluation-harness 0.4.13, tasks/gsm8k, regexes_to_ignore.
    """
    return re.sub(r"\.$", "", number.replace(",", "").replace("$", ""))
