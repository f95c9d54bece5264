"""Turns as text: chat templates in Jinja, cut into what is read and what is trained."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig, Template, is_template_file
from workbench.data.chat.messages import with_objects, with_parts, without
from workbench.data.chat.named_templates import TEMPLATES, shipped_template
from workbench.data.chat.template_file import read_template
from workbench.data.conversations import Conversation, Turn
from workbench.data.templating.render import RenderingError, chat_text
from workbench.data.tokens.control_tokens import ControlTokens, control_tokens
from workbench.data.tokens.segments import Segment, merged, special_frame
from workbench.errors import DataError

UNTOLD = ("id", "name", "tool_call_id", "instruction", "input")
"""Parts of a message that nobody misses where a template doesn't write them."""


@dataclass(frozen=True)
class Renderer:
    """Turns conversations into segments, by one template for a whole data set."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    is_own: bool
    """The template is the tokenizer's, and then writes its own beginning-of-sequence token."""
    is_file: bool = False
    """The template is the file that `data.template` names, written for transformers like a tokenizer's."""
    tools_template: str | None = None
    """The tokenizer's template for conversations with tools, where it has one of its own for them."""

    @cached_property
    def control(self) -> ControlTokens:
        """The tokens that may begin or end a turn: all special ones."""
        return ControlTokens(control_tokens(self.tokenizer))

    @cached_property
    def marks(self) -> ControlTokens:
        """These, and what the template writes like one where the tokenizer has no such token."""
        return ControlTokens((*self.control.tokens, *re.findall(r"<\|[^|<>\s]{1,40}\|>", self.template)))

    def prefix(self) -> list[int]:
        """The ids before the segments: the tokenizer's own beginning, where the template writes none."""
        return [] if self.is_own else special_frame(self.tokenizer)[0]

    def prefix_text(self) -> str:
        """The same as text."""
        return "".join(self.tokenizer.convert_ids_to_tokens(self.prefix()))

    @cached_property
    def beginning(self) -> list[int]:
        """The ids that begin a sequence, whether the tokenizer puts them there or a template writes them."""
        bos = self.tokenizer.bos_token_id
        return special_frame(self.tokenizer)[0] or ([] if bos is None else [bos])

    def num_special(self, ids: Sequence[int]) -> int:
        """How many ids at the beginning of an example belong to no turn."""
        count = len(self.beginning)
        return count if ids[:count] == self.beginning else 0

    def segments(self, conversation: Conversation) -> list[Segment]:
        """The text of the conversation, each answer with its end of turn apart and marked as trained.

        Raises:
            DataError: A template that refuses the turns, or rewrites earlier ones as the chat goes on.
        """
        messages = self.messages(conversation)
        offset = len(messages) - len(conversation.turns)
        whole = self.render(messages, conversation, prompt=False)
        segments: list[Segment] = []
        done = ""
        for number, turn in enumerate(conversation.turns, start=offset):
            if turn.role != "assistant":
                continue
            before = self.render(messages[:number], conversation, prompt=True) if number else ""
            is_last = number == len(messages) - 1
            after = (
                whole
                if is_last
                else self.part_of(whole, self.render(messages[: number + 1], conversation, prompt=False))
            )
            if not before.startswith(done) or not after.startswith(before):
                raise DataError(
                    f"{conversation.where}: the tokenizer's chat template writes earlier turns anew at turn "
                    f"{number + 1 - offset} (choose another data.template, such as chatml)"
                )
            answer, rest = self.answer_and_rest(after[len(before) :], is_last)
            segments.append(Segment(before[len(done) :], False))
            segments.append(Segment(answer, turn.trained))
            done = after[: len(after) - len(rest)] if rest else after
        return merged(segments)

    def part_of(self, whole: str, beginning: str) -> str:
        """A beginning of the conversation, without the end of a document that was written behind it alone."""
        bare = beginning.rstrip().removesuffix(str(self.tokenizer.eos_token))
        return bare if whole.startswith(bare) and not whole.startswith(beginning.rstrip()) else beginning

    def prompt(self, conversation: Conversation) -> list[Segment]:
        """The text up to where the next answer begins: all that the model is given to answer."""
        messages = self.messages(conversation)
        text = self.render(messages, conversation, prompt=True)
        history = self.segments(conversation) if any(m["role"] == "assistant" for m in messages) else []
        done = "".join(segment.text for segment in history)
        if not text.startswith(done):
            raise DataError(f"{conversation.where}: the tokenizer's chat template writes earlier turns anew")
        return merged([*history, Segment(text[len(done) :], False)])

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The turns as messages; a template that knows no tools gets them as text, in a system turn ahead."""
        messages = [turn.message() for turn in conversation.turns]
        if self.is_own:
            messages = [with_objects(message) for message in messages] if self.takes_objects else messages
            return [with_parts(message) for message in messages] if self.takes_parts else messages
        for message in messages:
            if "tool_calls" in message:
                message["content"] += json.dumps(message["tool_calls"], ensure_ascii=False)
        if conversation.tools is not None:
            tools = json.dumps(conversation.tools, ensure_ascii=False)
            messages.insert(0, {"role": "system", "content": tools})
        return messages

    @cached_property
    def takes_objects(self) -> bool:
        """Whether the tokenizer's template takes the arguments of a call as an object.

        That is what transformers asks of templates; most would quote text twice, some take nothing but text.
        """
        function = {"name": "f", "arguments": {"a": 1}}
        call = {"id": "call00001", "type": "function", "function": function}
        turns = (Turn("user", "a"), Turn("assistant", "", extra={"tool_calls": [call]}))
        asked = Conversation(where="", turns=turns)
        try:
            self.render([turn.message() for turn in turns], asked, prompt=False)
        except DataError:
            return False
        return True

    @cached_property
    def takes_parts(self) -> bool:
        """Whether the tokenizer's template writes a text only where it is the part of a list."""
        asked = Conversation(where="", turns=(Turn("user", "mark"), Turn("assistant", "mark")))
        messages = [turn.message() for turn in asked.turns]
        for form in (messages, [with_parts(message) for message in messages]):
            try:
                if self.render(form, asked, prompt=False).count("mark") == len(messages):
                    return form is not messages
            except DataError:
                continue
        return False

    def unwritten(self, conversation: Conversation) -> list[str]:
        """The parts of messages, and `tools`, that the template doesn't write: without them nothing changes.

        Raises:
            DataError: An answer that is nothing but calls of tools would be trained as an empty one.
        """
        names = dict.fromkeys(
            name for turn in conversation.turns for name in turn.extra if name not in UNTOLD
        )
        lacking = {name: without(conversation, name) for name in names}
        if conversation.tools is not None:
            lacking["tools"] = replace(conversation, tools=None)
        if not lacking:
            return []
        whole = self.render(self.messages(conversation), conversation, prompt=False)
        lost = [name for name, less in lacking.items() if self.writes(less) == whole]
        if "tool_calls" in lost and any(
            turn.trained and not turn.text.strip() for turn in conversation.turns
        ):
            raise DataError(
                f"{conversation.where}: an answer is nothing but tool_calls, which the tokenizer's chat "
                "template does not write (choose another data.template, such as chatml)"
            )
        return lost

    def writes(self, conversation: Conversation) -> str | None:
        """The whole conversation as text; None where the template refuses it."""
        try:
            return self.render(self.messages(conversation), conversation, prompt=False)
        except DataError:
            return None

    def render(self, messages: list[dict[str, Any]], conversation: Conversation, *, prompt: bool) -> str:
        """The messages through the template; with `prompt`, up to where an answer begins."""
        try:
            return chat_text(
                self.tokenizer,
                messages,
                (self.tools_template if conversation.tools else None) or self.template,
                tools=conversation.tools if self.is_own else None,
                add_generation_prompt=prompt,
            )
        except RenderingError as error:
            raise DataError(
                f"{conversation.where}: {error.of_chat_template()} (leave the row out, or choose another "
                "data.template, such as chatml)"
            ) from error

    def answer_and_rest(self, text: str, is_last: bool) -> tuple[str, str]:
        """An answer with its end of turn, and the white space that a template writes behind it."""
        stripped = text.rstrip()
        if stripped.endswith(self.control.tokens):
            return stripped, text[len(stripped) :]
        return (text + str(self.tokenizer.eos_token), "") if is_last else (text, "")


def renderer(
    tokenizer: PreTrainedTokenizerBase,
    data: DataConfig,
    conversations: Sequence[Conversation],
    *,
    answers: bool = False,
) -> Renderer:
    """The renderer that `data.template` asks for, for rows of one format.

    Args:
        tokenizer: The model's.
        data: The section.
        conversations: The rows.
        answers: The rows are prompts. A tokenizer's own template then goes before the file of
            `data.template`: a trained model was saved with what the file held at its training.

    Raises:
        DataError: The tokenizer has no end-of-sequence token, or bare texts stand among chats.
    """
    if tokenizer.eos_token is None:
        raise DataError("data.template: answers would never end, the tokenizer has no end-of-sequence token")
    if is_template_file(data.template):
        saved = tokenizer.chat_template if answers else None
        text = saved if isinstance(saved, str) else read_template(data.template)
        return Renderer(tokenizer, text, True, is_file=True)
    if data.template != Template["auto"].name:
        return Renderer(tokenizer, TEMPLATES[Template[data.template]], False)
    is_chat = conversations[0].is_chat
    other = next((each for each in conversations if each.is_chat is not is_chat), None)
    if other is not None:
        raise DataError(
            f"{other.where}: a prompt that is {'text' if is_chat else 'messages'}, where others are "
            f"{'messages' if is_chat else 'text'} (make them two of data.sources)"
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
