"""Splits chats whose earlier answers the chat template changes when the chat goes on, as Qwen3's thoughts."""

from collections.abc import Sequence
from dataclasses import replace

from workbench.data.chat.render_turns import Renderer
from workbench.data.conversations import Conversation

SPLIT = (
    "are split into an example per answer: the chat template changes earlier answers when the chat goes on "
    "(Qwen3's and others drop their thoughts)"
)
"""Note on a row that `pieces` splits."""


def pieces(conversation: Conversation, render: Renderer) -> list[Conversation]:
    """Split a chat so that each trained answer is in the text that the model generates it in.

    Each piece ends with an answer. It trains also the earlier answers that its text has as the model
    generates them; together the pieces train each answer once. A chat without changed answers is its only
    piece.
    """
    left = [number for number, turn in enumerate(conversation.turns) if turn.trained]
    if not left or unchanged(conversation, left, render) == left:
        return [conversation]
    found: list[Conversation] = []
    while left:
        start = replace(conversation, turns=conversation.turns[: left[-1] + 1])
        trained = {*unchanged(start, left[:-1], render), left[-1]}
        left = [number for number in left if number not in trained]
        flagged = (replace(turn, trained=number in trained) for number, turn in enumerate(start.turns))
        found.append(replace(start, turns=tuple(flagged)))
    return found[::-1]


def unchanged(conversation: Conversation, answers: Sequence[int], render: Renderer) -> list[int]:
    """Return which turns the rendered conversation has as the model generates them."""
    messages = render.messages(conversation)
    offset = len(messages) - len(conversation.turns)
    text = render.render(messages, conversation, prompt=False)
    return [n for n in answers if render.answer_in(text, messages, n + offset, conversation) is not None]
