"""Finds the answer in a generated text, Chinese or English: a number, a choice letter, a pattern's match."""

import re
import string
import unicodedata

from workbench.config.benchmark import Extract, GenerationConfig

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_MARKED_NUMBER = re.compile(
    r"(?:####|答案(?:是|为)?\s*:?|(?:the )?answer is:?)\s*\$?\s*" + f"({_NUMBER.pattern})", re.I
)
_LETTER_AFTER_WORDS = re.compile(
    r"(?i:答案|选项|选择|应选|应该选|故选|选|answer|option|choice)\s*(?i:是|为|应为|应该是|is|should be)?\s*"
    r"[:\s\"'“”‘’*(\[【《<]*([A-Z])(?![A-Za-z])"
)
_LETTER_FIRST = re.compile(r"[\s\"'“”‘’*(\[【《<]*([A-Z])(?=\s*(?:[.、。,，;；:：)\]】》>*\n]|$))")
_LETTER_ALONE = re.compile(r"(?<![A-Za-z])([A-Z])(?![A-Za-z])")


def extract(text: str, how: GenerationConfig, letters: str = string.ascii_uppercase) -> str | None:
    """The answer in a generated text, or None where there is none."""
    if how.extract == Extract.number:
        return number(text)
    if how.extract == Extract.letter:
        return letter(text, letters)
    if how.extract == Extract.pattern:
        found = list(re.finditer(how.pattern, text))
        return (found[-1].group(1) if found[-1].re.groups else found[-1].group(0)) if found else None
    return text.strip()


def number(text: str) -> str | None:
    """The number after `####`, `答案是` or `the answer is`, else the last one; commas and units dropped."""
    text = unicodedata.normalize("NFKC", text)
    marked = _MARKED_NUMBER.findall(text)
    found = marked or _NUMBER.findall(text)
    return canonical_number(found[-1]) if found else None


def number_after_marks(text: str) -> str:
    """The number after the first `####`. Source: lm-evaluation-harness 0.4.13, tasks/gsm8k, strict-match."""
    found = re.search(r"#### (-?[0-9.,]+)", text)
    return _without_signs(found.group(1)) if found else "[invalid]"


def last_number(text: str) -> str:
    """The last number. Source: lm-evaluation-harness 0.4.13, tasks/gsm8k, flexible-extract."""
    found = re.findall(r"-?[$0-9.,]{2,}|-?[0-9]+", text)
    return _without_signs(found[-1].strip()) if found else "[invalid]"


def _without_signs(number: str) -> str:
    """As the harness compares them: without commas, dollar signs and a full stop at the end."""
    return re.sub(r"\.$", "", number.replace(",", "").replace("$", ""))


def canonical_number(text: str) -> str:
    """A number without commas, a trailing `.0` or a plus sign, so that equal numbers are equal texts."""
    text = text.replace(",", "").strip().lstrip("+").rstrip(".")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-", "-0") else text


def letter(text: str, letters: str = "ABCD") -> str | None:
    """The letter that a text names as its answer.

    The last one that follows words such as `答案是` or `the answer is`; else a letter that the text begins
    with; else the only capital letter that stands alone. Full-width letters count as letters.
    """
    text = unicodedata.normalize("NFKC", text)
    named = [found for found in _LETTER_AFTER_WORDS.findall(text) if found in letters]
    if named:
        return str(named[-1])
    start = _LETTER_FIRST.match(text)
    if start and start.group(1) in letters:
        return start.group(1)
    alone = {str(found) for found in _LETTER_ALONE.findall(text) if found in letters}
    return alone.pop() if len(alone) == 1 else None
