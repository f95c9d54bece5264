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
    """Conversations of one data format, with the renderer and the encoder for their text."""

    conversations: list[Conversation]
    renderer: Renderer
    literal: LiteralTokenizer | None
    """Encoder that reads control tokens in rows as characters; None without `data.split_special_tokens`."""

    @property
    def encoder(self) -> Encoder:
        """Encoder of rendered text: the model's tokenizer, or the LiteralTokenizer in `literal`."""
        return self.literal or self.renderer.tokenizer

    def shown(self, text: str) -> str:
        """Put control tokens back into a rendered text, in place of the numbers from `LiteralTokenizer`."""
        return self.literal.shown(text) if self.literal else text


def prepared(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    data: DataConfig,
    *,
    answers: bool = False,
) -> Chats:
    """Remove duplicate begin and end tokens, or with `data.split_special_tokens` hide control tokens of rows.

    A hidden token is a number between marks, see `LiteralTokenizer`.

    Args:
        conversations: Rows of one data format.
        tokenizer: The model's tokenizer.
        data: The section `data` of the configuration.
        answers: Whether the conversations are prompts that the model answers, see `renderer`.

    Raises:
        DataError: As for `renderer`.
    """
    render = renderer(tokenizer, data, conversations, answers=answers)
    if not data.split_special_tokens:
        return Chats([without_doubled(example, render) for example in conversations], render, None)
    literal = LiteralTokenizer(tokenizer)
    return Chats([literal.hidden_in(example) for example in conversations], render, literal)
