"""The chat template that a trained model is saved with: it renders, byte for byte, what was trained."""

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
    """How conversations were written for training."""

    template: str | None
    """The chat template to be saved; None: the tokenizer keeps its own, or was not asked for one."""
    ends: tuple[str, ...]
    """The tokens that end an answer, the first of them being written right behind it."""


def chat_form(render: Renderer, conversation: Conversation, template: str) -> ChatForm:
    """How a renderer writes conversations like this one.

    Args:
        render: Of the data.
        conversation: One of the rows.
        template: The key `data.template`: bare prompts are saved with a template only where one is named.
    """
    if render.is_file:
        return ChatForm(render.template, turn_ends(render))
    is_saved = not render.is_own and (conversation.is_chat or template != Template["auto"].name)
    text = saved_template(render.tokenizer, render.template) if is_saved else None
    return ChatForm(text, turn_ends(render))


def turn_ends(render: Renderer) -> tuple[str, ...]:
    """The end of turn that the template writes right behind an answer, and the end of sequence."""
    plain = Conversation(where="", turns=(Turn("user", SENTINEL), Turn("assistant", SENTINEL)))
    skeleton = skeleton_text(plain, render) or ""
    written = render.control.within([skeleton.rpartition(SENTINEL)[2]])
    return tuple(dict.fromkeys([*written[:1], str(render.tokenizer.eos_token)]))


def end_ids(tokenizer: PreTrainedTokenizerBase, forms: Iterable[ChatForm]) -> list[int]:
    """The numbers of all tokens that end trained answers."""
    vocabulary = tokenizer.get_vocab()
    ends = dict.fromkeys(end for form in forms for end in form.ends)
    return [vocabulary[end] for end in ends if end in vocabulary]


def templates_of(forms: Iterable[ChatForm]) -> list[str]:
    """The different chat templates to be saved: one, unless sources of rows are written in several ways."""
    return list(dict.fromkeys(form.template for form in forms if form.template is not None))
