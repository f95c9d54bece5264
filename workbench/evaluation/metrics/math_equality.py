"""Scores mathematical answers by math_verify, within a limit on the time of each item."""

import re
from collections.abc import Sequence

from workbench.evaluation.checkers.checker import Checker
from workbench.evaluation.extraction import marks
from workbench.evaluation.extraction.cleaning import whole_text, without_thoughts
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.records import Answer, Example

_WORD = re.compile(r"(?<!\\)\b[^\W\d_]{2,}")
_EQUALS = re.compile(r"=\s?-?[0-9.,/ ]{1,40}\s*$")
MATH_VERIFY = Checker("math_verify", "compare_formulas.py")


def states_target(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return 1.0 if the value of the answer that the generated text states is that of a target, else 0.0.

    The answer is what the benchmark's `extract` rule took from the text. If the rule takes the whole text, or
    found nothing, it is what math_verify finds after the last thought: a box, a formula, or a number that the
    text states as its answer; any number of a text without words.
    """
    return float(MATH_VERIFY.ask(_question(answer, example)) is True)


def same_value(one: Judged, other: Judged) -> bool:
    """Return whether the value of an answer is that of another to the same item, by math_verify.

    A whole text with words, from which no answer was taken, has no such value.
    """
    text, extracted = other.answer.generation or "", other.answer.extracted or ""
    if not extracted or (whole_text(text, extracted) is not None and _WORD.search(extracted)):
        return False
    stated, _, takes_any_number = _question(one.answer, one.example)
    return MATH_VERIFY.ask([stated, [extracted], takes_any_number]) is True


def compare_ahead(judged: Sequence[Judged]) -> None:
    """Compare the answers of all items side by side; MATH_VERIFY keeps the results, which scoring then reads.

    All ranks must call this.
    """
    MATH_VERIFY.ask_ahead([_question(item.answer, item.example) for item in judged])


def _question(answer: Answer, example: Example) -> list[str | list[str] | bool]:
    """Return the text that states the answer, the right answers, and whether any number in it counts."""
    text, extracted = answer.generation or "", answer.extracted
    has_found_answer = extracted is not None and whole_text(text, extracted) is None
    stated = f"${extracted}$" if has_found_answer else without_thoughts(text)
    announces = marks.FINAL.search(stated) or marks.ANSWER.search(stated) or _EQUALS.search(stated)
    takes_any_number = has_found_answer or announces is not None or not _WORD.search(stated)
    return [stated, list(example.reference_texts), takes_any_number]
