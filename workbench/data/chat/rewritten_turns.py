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
    """Split a chat whose template changes earlier answers into chats that train each answer as generated.

    Each result is the start of the chat up to a trained answer; of the earlier answers it trains those that
    the template doesn't change in it. Together the results train each answer once. A chat whose template
    changes no trained answer is returned itself, as the only result.

    Raises:
        DataError: The template refuses the turns.
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
    """Return those of the indices `answers` whose turns the template doesn't change later in the chat.

    Raises:
        DataError: The template refuses the turns.
    """
    messages = render.messages(conversation)
    offset = len(messages) - len(conversation.turns)
    text = render.render(messages, conversation, prompt=False)
    return [n for n in answers if render.answer_in(text, messages, n + offset, conversation) is not None]
