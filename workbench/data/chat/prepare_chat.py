"""Prepares conversations for rendering, in the same way for training and for generation."""

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
    """Conversations of one format with their renderer and encoder."""

    conversations: list[Conversation]
    renderer: Renderer
    literal: LiteralTokenizer | None
    """Encoder for `data.split_special_tokens`, with control tokens in the rows' text hidden; else None."""

    @property
    def encoder(self) -> Encoder:
        """Encoder of rendered text."""
        return self.literal or self.renderer.tokenizer

    def shown(self, text: str) -> str:
        """Return a rendered text with its hidden control tokens spelled out."""
        return self.literal.shown(text) if self.literal else text


def prepared(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    data: DataConfig,
    *,
    answers: bool = False,
) -> Chats:
    """Remove duplicate begin and end tokens, or with `data.split_special_tokens` hide all control tokens.

    Args:
        conversations: Of one format.
        tokenizer: The model's.
        data: The section.
        answers: The conversations are prompts, see `renderer`.

    Raises:
        DataError: As for `renderer`.
    """
    render = renderer(tokenizer, data, conversations, answers=answers)
    if not data.split_special_tokens:
        return Chats([without_doubled(example, render) for example in conversations], render, None)
    literal = LiteralTokenizer(tokenizer)
    return Chats([literal.hidden_in(example) for example in conversations], render, literal)
