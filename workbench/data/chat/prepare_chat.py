"""Conversations made ready to be rendered, the same way for training and for answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig
from workbench.data.chat.doubled_tokens import without_doubled
from workbench.data.chat.render_turns import Renderer, renderer
from workbench.data.conversations import Conversation
from workbench.data.tokens.literal_tokens import LiteralTokenizer
from workbench.data.tokens.segments import Encoder


@dataclass(frozen=True)
class Chats:
    """Conversations of one format, and what turns them into text and ids."""

    conversations: list[Conversation]
    renderer: Renderer
    literal: LiteralTokenizer | None
    """Where the conversations' own control tokens are plain characters; they are hidden then."""

    @property
    def encoder(self) -> Encoder:
        """What gives the ids of rendered text."""
        return self.literal or self.renderer.tokenizer

    def shown(self, text: str) -> str:
        """A rendered text as people read it."""
        return self.literal.shown(text) if self.literal else text


def prepared(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    data: DataConfig,
    *,
    answers: bool = False,
) -> Chats:
    """The conversations with their begin and end tokens written once, or hidden as plain characters.

    Args:
        conversations: Of one format.
        tokenizer: The model's.
        data: The section.
        answers: The conversations are prompts, see `renderer`.

    Raises:
        DataError: As `renderer` says.
    """
    render = renderer(tokenizer, data, conversations, answers=answers)
    if not data.split_special_tokens:
        return Chats([without_doubled(example, render) for example in conversations], render, None)
    literal = LiteralTokenizer(tokenizer)
    return Chats([literal.hidden_in(example) for example in conversations], render, literal)
