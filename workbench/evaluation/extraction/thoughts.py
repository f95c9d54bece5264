"""Tells the thought of a generated text from the answer after it."""

from workbench.data.chat.thoughts import OPENED
from workbench.evaluation.extraction.cleaning import THOUGHT_END, THOUGHT_START, without_thoughts


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt ends with the opening tag of a thought, so that the text begins within it."""
    return prompt.rstrip().endswith(OPENED)


def ends_in_thought(text: str, is_opened: bool) -> bool:
    """Return whether a text ends before its thought does, so that it has no answer.

    Args:
        text: a generated text.
        is_opened: whether the text begins within a thought.
    """
    *_, rest = THOUGHT_END.split((OPENED if is_opened else "") + text)
    return THOUGHT_START.search(rest) is not None


def after_thoughts(text: str, is_opened: bool) -> str:
    """Return the part of a text after its last thought; empty if it ends within one.

    Args:
        text: a generated text.
        is_opened: whether the text begins within a thought.
    """
    return without_thoughts((OPENED if is_opened else "") + text)
