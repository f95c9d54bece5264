"""Chooses the chat template to save with a trained model: it renders prompts exactly as in training."""

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
    """The chat template and end tokens that conversations were trained with, to be saved with the model."""

    template: str | None
    """Chat template to save; None: the tokenizer keeps its template, or bare prompts need none."""
    ends: tuple[str, ...]
    """Tokens that end an answer: the end of turn that the template writes (if any), the end of sequence."""


def chat_form(render: Renderer, conversation: Conversation, template: str) -> ChatForm:
    """Return the chat template to save for the rows of one source, and the tokens that end their answers.

    Args:
        render: The renderer of the rows.
        conversation: Any of the rows.
        template: The key `data.template`; for bare prompts a template is saved only if the key names one.
    """
    if render.is_file:
        return ChatForm(render.template, turn_ends(render))
    is_saved = not render.is_own and (conversation.is_chat or template != Template["auto"].name)
    text = saved_template(render.tokenizer, render.template) if is_saved else None
    return ChatForm(text, turn_ends(render))


def turn_ends(render: Renderer) -> tuple[str, ...]:
    """Return the token that the template writes after an answer (if any), and the end-of-sequence token."""
    plain = Conversation(where="", turns=(Turn("user", SENTINEL), Turn("assistant", SENTINEL)))
    skeleton = skeleton_text(plain, render) or ""
    following = render.control.within([skeleton.rpartition(SENTINEL)[2]])
    return tuple(dict.fromkeys([*following[:1], str(render.tokenizer.eos_token)]))


def end_ids(tokenizer: PreTrainedTokenizerBase, forms: Iterable[ChatForm]) -> list[int]:
    """Return the distinct ids of the tokens that end answers in any of the chat forms, to stop generation.

    End tokens that the tokenizer lacks are left out.
    """
    vocabulary = tokenizer.get_vocab()
    ends = dict.fromkeys(end for form in forms for end in form.ends)
    return [vocabulary[end] for end in ends if end in vocabulary]


def templates_of(forms: Iterable[ChatForm]) -> list[str]:
    """Return the distinct chat templates to save, in the order of the forms.

    Forms without one (the tokenizer's own template, or plain texts) are left out, so it may be empty.
    """
    return list(dict.fromkeys(form.template for form in forms if form.template is not None))
