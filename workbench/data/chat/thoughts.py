"""Finds, moves and removes the reasoning ("thought") before an answer."""

import re
from dataclasses import replace
from typing import Any

from workbench.config.data import Thoughts
from workbench.data.conversations import Conversation, Turn
from workbench.data.templating.render import REASONING
from workbench.errors import DataError

OPENED, CLOSED = "<think>", "</think>"
"""Tags around a thought in the text of an answer (Qwen3, DeepSeek-R1, GLM-4.5 and others)."""

SPACE = r"(?:\s*\n|[ \t]*)"
"""White space after a thought; the indentation of the line that follows belongs to the answer."""

CLOSING_LINE = re.compile(rf"\n{CLOSED}(?=\s*(?:\n|\Z))")
"""A closing tag on a line of its own."""

WITHOUT_THOUGHT = "have an answer without a thought, to which data.thoughts={} does nothing"
STRIPPED = "have a thought, which data.thoughts=strip removes"
MASKED = "have a thought, which carries no loss (data.thoughts=mask)"


def split(text: str) -> tuple[str | None, str]:
    """Split the text of an answer into (its thought without tags, the rest); (None, text) without a thought.

    A thought is at the start, between its tags, and may be empty. Without an opening tag (the prompt may end
    with one), the closing tag has a line of its own.
    """
    start = len(text) - len(text.lstrip())
    if text.startswith(OPENED, start):
        start += len(OPENED)
        end = text.find(CLOSED, start)
    else:
        match = CLOSING_LINE.search(text)
        end = match.start() + 1 if match and OPENED not in text[: match.start()] else -1
    if end < 0:
        return None, text
    space = re.compile(SPACE).match(text, end + len(CLOSED))
    assert space is not None
    return text[start:end].strip("\n"), text[space.end() :]


def reasoning_of(turn: Turn) -> str:
    """Return the text of a turn's reasoning field, whichever of its names the row uses; "" without one."""
    return next((str(turn.extra[name]) for name in REASONING if turn.extra.get(name)), "")


def has_thought(turn: Turn) -> bool:
    """Return whether a turn has a thought that isn't empty, in a field or at the start of its text."""
    return bool(reasoning_of(turn) or split(turn.text)[0])


def in_field(conversation: Conversation, *, writes_empty: bool) -> Conversation:
    """Return a copy in which thoughts in the text of answers are in the field `reasoning_content` instead.

    An answer whose reasoning is in a field already stays as it is.

    Args:
        conversation: A row.
        writes_empty: Whether the template writes `<think></think>` before an answer without a thought; then
            an empty thought is removed from the text, too.
    """

    def moved(turn: Turn) -> Turn:
        thought, rest = split(turn.text)
        if turn.role != "assistant" or thought is None or reasoning_of(turn):
            return turn
        if not thought.strip():
            return replace(turn, text=rest) if writes_empty and rest.strip() else turn
        return replace(turn, text=rest, extra={**turn.extra, "reasoning_content": thought})

    return replace(conversation, turns=tuple(map(moved, conversation.turns)))


def stripped(conversation: Conversation) -> Conversation:
    """Return a copy without the thoughts of all answers: reasoning fields, and `<think>...</think>` in texts.

    Raises:
        DataError: A trained answer is nothing but a thought.
    """
    turns = []
    for number, turn in enumerate(conversation.turns, start=1):
        if turn.role == "assistant":
            extra: dict[str, Any] = {key: v for key, v in turn.extra.items() if key not in REASONING}
            text = split(turn.text)[1]
            if turn.trained and not text.strip() and "tool_calls" not in extra:
                raise DataError(
                    f"{conversation.where}: the answer in turn {number} is nothing but a thought "
                    "(leave the row out, or set data.thoughts=train)"
                )
            turn = replace(turn, text=text, extra=extra)
        turns.append(turn)
    return replace(conversation, turns=tuple(turns))


def noted(conversation: Conversation, mode: Thoughts) -> Conversation:
    """Return a copy with a note on what `data.thoughts` (the mode) does to the row's thoughts.

    Without trained answers, and with the mode `train`, the conversation itself is returned.
    """
    answers = [turn for turn in conversation.turns if turn.trained]
    if mode is Thoughts.train or not answers:
        return conversation
    done = STRIPPED if mode is Thoughts.strip else MASKED
    note = done if any(map(has_thought, answers)) else WITHOUT_THOUGHT.format(mode.name)
    return replace(conversation, notes=(*conversation.notes, note))


def length_in(answer: str, turn: Turn, prompt: str) -> int:
    """Return how many characters at the start of a rendered answer are its thought; 0 without a thought.

    They include the closing tag and the white space after it.

    Args:
        answer: The rendered answer.
        turn: Its turn; a template may write the reasoning field in marks of its own, such as gpt-oss's.
        prompt: The text before the answer, which may end with the opening tag.
    """
    is_opened = answer.lstrip().startswith(OPENED) or prompt.rstrip().endswith(OPENED)
    if is_opened and (match := re.search(CLOSED + SPACE, answer)):
        return match.end()
    reasoning = reasoning_of(turn).strip()
    index = answer.find(reasoning) if reasoning else -1
    return index + len(reasoning) if index >= 0 else 0
