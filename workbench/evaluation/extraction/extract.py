"""Extracts the answer from a generated text and its references from the target, by the same rules."""

import re
import string
import unicodedata

from workbench.config.benchmark import Extract, GenerationConfig
from workbench.errors import ConfigError
from workbench.evaluation.extraction import numbers, quantities
from workbench.evaluation.extraction.cleaning import without_thoughts
from workbench.evaluation.extraction.code_blocks import code
from workbench.evaluation.extraction.letters import letter
from workbench.evaluation.extraction.numbers import number
from workbench.evaluation.extraction.question_options import options_of
from workbench.evaluation.extraction.sought import seeks_wrong
from workbench.patterns import matching

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


INVALID = "[invalid]"
"""What rules of lm-evaluation-harness extract from a text without an answer."""
EXTRACTION_VERSION = "10"
"""Raised when the extraction of numbers, letters or code changes: scores of versions aren't comparable."""


def extract(
    text: str,
    config: GenerationConfig,
    letters: str = string.ascii_uppercase,
    several: bool = False,
    as_harness: bool = False,
    question: str = "",
) -> str | None:
    """Return the answer in a generated text; None: the text states none that the rule accepts.

    With the rule `verbatim` it is the text itself, without white space at its ends. Thoughts are removed
    before any rule reads the text; a text that ends within a thought has no answer.

    Args:
        text: text of a model.
        config: configuration with the rule `extract`.
        letters: letters of the choices, for `extract: letter`.
        several: whether the answer may be several letters.
        as_harness: whether `verbatim` and `pattern` read thoughts, as lm-evaluation-harness does.
        question: text of the question with its options, for `extract: letter`, which needs to know the
            options, and whether the wrong statement is asked for; empty: unknown.

    Raises:
        ConfigError: Matching the pattern takes too long.
    """
    if not (as_harness and config.extract in (Extract.verbatim, Extract.pattern)):
        has_text = bool(text.strip())
        text = without_thoughts(text)
        if has_text and not text.strip():
            return None
    if config.extract == Extract.number:
        return number(text)
    if config.extract == Extract.letter:
        options = options_of(question, letters)
        return letter(text, letters, several, seeks_wrong(question, letters), options)
    if config.extract == Extract.pattern:
        return last_match(config.pattern, text)
    if config.extract == Extract.code:
        return code(text)
    return text.strip()


def references(
    target: str, config: GenerationConfig, letters: str = string.ascii_uppercase
) -> tuple[str, ...] | None:
    """Apply the rule `extract` to a target; return the texts of which an extracted answer must equal one.

    A number gives its spellings, `3/4` and `0.75`. If a pattern doesn't match the target, because it is
    meant for generated texts, the target itself is the reference. None: the target has no number or letter.

    Raises:
        ConfigError: Matching the pattern takes too long.
    """
    if config.extract == Extract.number:
        quantity = numbers.only(target)
        return None if quantity is None else quantities.spellings(quantity)
    if config.extract == Extract.letter:
        answer = _letters_alone(target, letters) or letter(target, letters, several=True)
        return None if answer is None else (answer,)
    if config.extract == Extract.pattern:
        match = last_match(config.pattern, target)
        return (target if match is None else match,)
    return (target,)


def _letters_alone(target: str, letters: str) -> str | None:
    """Return the sorted letters of a target that consists of choice letters, as `BD` or `B、D`; else None."""
    listed = re.sub(r"[\s,;、/|和与及]+", "", unicodedata.normalize("NFKC", target))
    return "".join(sorted(set(listed))) if listed and set(listed) <= set(letters) else None


def last_match(pattern: str, text: str) -> str | None:
    """Return the first group that took part in a pattern's last match; if none did, the whole match.

    None: the pattern doesn't match.

    Raises:
        ConfigError: Matching takes too long.
    """
    try:
        return matching.last_match(pattern, text)
    except matching.PatternError as error:
        raise ConfigError(f"generation.pattern: {error}") from error


def number_after_marks(text: str) -> str:
    """Return the number after the first `####`, without commas and dollar signs, or `[invalid]`.

    Source: lm-evaluation-harness 0.4.13, tasks/gsm8k, strict-match.
    """
    match = re.search(r"#### (-?[0-9.,]+)", text)
    return without_signs(match.group(1)) if match else INVALID


def last_number(text: str) -> str:
    """Return the last number of a text, without commas and dollar signs, or `[invalid]`.

    Source: lm-evaluation-harness 0.4.13, tasks/gsm8k, flexible-extract.
    """
    return without_signs(last_number_as_written(text))


def last_number_as_written(text: str) -> str:
    """Return the last number of a text as the text writes it, such as `$1,234.`, or `[invalid]`.

    Source: lm-evaluation-harness 0.4.13, tasks/mgsm, flexible-extract.
    """
    numbers_in_text = re.findall(r"-?[$0-9.,]{2,}|-?[0-9]+", text)
    return numbers_in_text[-1] if numbers_in_text else INVALID


def without_signs(number: str) -> str:
    """Return a number without commas, dollar signs and a final full stop, as the harness compares numbers.

    Source: lm-evaluation-harness 0.4.13, tasks/gsm8k, regexes_to_ignore.
    """
    return re.sub(r"\.$", "", number.replace(",", "").replace("$", ""))
