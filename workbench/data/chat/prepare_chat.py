"""Prepares conversations for rendering, in the same way for training and for generation."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig, Thoughts
from workbench.data.chat.build_renderer import renderer
from workbench.data.chat.doubled_tokens import without_doubled
from workbench.data.chat.render_turns import Renderer
from workbench.data.chat.thoughts import in_field, noted, stripped
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
        """Return a rendered text with the control tokens that `LiteralTokenizer.hidden` had replaced."""
        return self.literal.shown(text) if self.literal else text


def prepared(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    data: DataConfig,
    *,
    answers: bool = False,
) -> Chats:
    """Return copies of conversations that are ready to be rendered, with their renderer and encoder.

    Thoughts are moved or removed as `with_thoughts` says, and begin and end tokens that the template writes
    anyway are removed. With `data.split_special_tokens`, control tokens of rows are hidden instead, see
    `LiteralTokenizer.hidden`.

    Args:
        conversations: Rows of one data format, at least one.
        tokenizer: The model's tokenizer.
        data: The section `data` of the configuration.
        answers: Whether the conversations are prompts that the model answers, see `renderer`.

    Raises:
        DataError: As for `renderer`; an answer is nothing but a removed thought or removed tokens.
    """
    render = renderer(tokenizer, data, conversations, answers=answers)
    conversations = [with_thoughts(example, render, data.thoughts) for example in conversations]
    if not data.split_special_tokens:
        return Chats([without_doubled(example, render) for example in conversations], render, None)
    literal = LiteralTokenizer(tokenizer)
    return Chats([literal.hidden_in(example) for example in conversations], render, literal)


def with_thoughts(conversation: Conversation, render: Renderer, mode: Thoughts) -> Conversation:
    """Return a conversation without its thoughts (mode `strip`), or with them where the template reads them.

    Templates that read `reasoning_content` get the thoughts in this field; for others they stay in the text.
    Modes other than `train` add a note.

    Raises:
        DataError: With `strip`, an answer is nothing but a thought.
    """
    conversation = noted(conversation, mode)
    if mode is Thoughts.strip:
        return stripped(conversation)
    if not render.takes_thoughts:
        return conversation
    return in_field(conversation, writes_empty=render.writes_empty_thought)
