"""Chooses the chat template to save with a trained model: it renders what was trained, byte for byte."""

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from workbench.config.data import Template
from workbench.data.chat.doubled_tokens import skeleton_text
from workbench.data.chat.named_templates import saved_template
from workbench.data.chat.render_turns import Renderer
from workbench.data.conversations import Conversation, Turn
from workbench.data.tokens.control_tokens import SENTINEL


@dataclass(frozen=True)
class ChatForm:
    """Template and end tokens of conversations in training."""

    template: str | None
    """Chat template to save; None: the tokenizer keeps its own, or none was asked for."""
    ends: tuple[str, ...]
    """Tokens that end an answer; the first one directly follows it."""


def chat_form(render: Renderer, conversation: Conversation, template: str) -> ChatForm:
    """Return template and end tokens of conversations like this one.

    Args:
        render: The renderer of the data.
        conversation: Any of the rows.
        template: The key `data.template`; for bare prompts a template is saved only if the key names one.
    """
    if render.is_file:
        return ChatForm(render.template, turn_ends(render))
    is_saved = not render.is_own and (conversation.is_chat or template != Template["auto"].name)
    text = saved_template(render.tokenizer, render.template) if is_saved else None
    return ChatForm(text, turn_ends(render))


def turn_ends(render: Renderer) -> tuple[str, ...]:
    """Return the end of turn that the template writes directly after an answer, and the end of sequence."""
    plain = Conversation(where="", turns=(Turn("user", SENTINEL), Turn("assistant", SENTINEL)))
    skeleton = skeleton_text(plain, render) or ""
    following = render.control.within([skeleton.rpartition(SENTINEL)[2]])
    return tuple(dict.fromkeys([*following[:1], str(render.tokenizer.eos_token)]))


def end_ids(tokenizer: PreTrainedTokenizerBase, forms: Iterable[ChatForm]) -> list[int]:
    """Return the ids of all tokens that end trained answers."""
    vocabulary = tokenizer.get_vocab()
    ends = dict.fromkeys(end for form in forms for end in form.ends)
    return [vocabulary[end] for end in ends if end in vocabulary]


def templates_of(forms: Iterable[ChatForm]) -> list[str]:
    """Return the distinct chat templates to save; more than one if the sources differ in their templates."""
    return list(dict.fromkeys(form.template for form in forms if form.template is not None))
