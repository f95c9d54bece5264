"""Chooses the chat template of rows, and checks the arguments that it is given."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig, Template, Thoughts, is_template_file
from workbench.data.chat.named_templates import TEMPLATES, shipped_template
from workbench.data.chat.render_turns import Renderer
from workbench.data.chat.template_file import read_template
from workbench.data.conversations import Conversation
from workbench.data.notices import say_once
from workbench.data.templating.render import RenderingError, unused_argument
from workbench.errors import DataError


def renderer(
    tokenizer: PreTrainedTokenizerBase,
    data: DataConfig,
    conversations: Sequence[Conversation],
    *,
    answers: bool = False,
) -> Renderer:
    """Build the renderer for `data.template` and rows of one data format.

    With `auto`, prompts that are plain text get the template `plain`, which adds nothing but the end of
    sequence; messages get the tokenizer's chat template, else `open-llama`.

    Args:
        tokenizer: The model's tokenizer.
        data: The section `data` of the configuration.
        conversations: The rows, at least one.
        answers: Whether the rows are prompts that the model answers. Then a template file gives way to the
            tokenizer's chat template: a trained model was saved with the file's text at its training.

    Raises:
        DataError: The tokenizer has no end-of-sequence token, with `auto` some prompts are text and others
            messages, a template file can't be read, or (for training) the template does not use one of
            `data.template_arguments`.
    """
    if tokenizer.eos_token is None:
        raise DataError(
            "data.template: the tokenizer has no end-of-sequence token, so answers would never end"
        )
    chosen = replace(
        chosen_template(tokenizer, data, conversations, answers=answers),
        arguments=data.template_arguments,
        masks_thoughts=data.thoughts is Thoughts.mask,
    )
    check_arguments(chosen, conversations[0].where, answers=answers)
    return chosen


def check_arguments(render: Renderer, where: str, *, answers: bool) -> None:
    """Refuse arguments of `render` that its chat template doesn't use; named templates use none.

    With `answers` (the rows are prompts for generation) they are only logged.

    Raises:
        DataError: An argument is not used (without `answers`), or the template has a syntax error; the
            message begins with `where`.
    """
    templates = [render.template, render.tools_template or ""] if render.is_own else []
    try:
        unused = unused_argument(render.arguments, *templates)
    except RenderingError as error:
        raise DataError(f"{where}: the chat template {error}") from error
    if unused and not answers:
        raise DataError(
            f"{where}: data.template_arguments.{unused}; leave it out, or write it into data.sources.NAME of "
            "the sources whose template has it"
        )
    if unused:
        say_once(f"data.template_arguments.{unused}, so it has no effect on these prompts")


def chosen_template(
    tokenizer: PreTrainedTokenizerBase,
    data: DataConfig,
    conversations: Sequence[Conversation],
    *,
    answers: bool,
) -> Renderer:
    """Build the renderer with the chat template of `data.template`, still without arguments; see `renderer`.

    Raises:
        DataError: A template file can't be read, or with `auto` some prompts are text and others messages.
    """
    if is_template_file(data.template):
        saved = tokenizer.chat_template if answers else None
        text = saved if isinstance(saved, str) else read_template(data.template)
        return Renderer(tokenizer, text, True, is_file=True)
    if data.template != Template["auto"].name:
        return Renderer(tokenizer, TEMPLATES[Template[data.template]], False)
    is_chat = conversations[0].is_chat
    other = next((example for example in conversations if example.is_chat is not is_chat), None)
    if other is not None:
        raise DataError(
            f"{other.where}: the prompt is {'text' if is_chat else 'a list of messages'}, but others are "
            f"{'lists of messages' if is_chat else 'text'} (make them two of data.sources)"
        )
    if not is_chat:
        return Renderer(tokenizer, TEMPLATES[Template["plain"]], False)
    own: Any = tokenizer.chat_template
    by_use = own if isinstance(own, dict) else {"default": own}
    own, with_tools = by_use.get("default"), by_use.get("tool_use")
    if shipped := shipped_template(tokenizer, own):
        return Renderer(tokenizer, shipped, False)
    return Renderer(
        tokenizer,
        own or TEMPLATES[Template["open-llama"]],
        bool(own),
        tools_template=with_tools if own else None,
    )
