"""Renders conversations with chat templates and splits the text into prompts and answers."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.data.chat.messages import with_objects, with_parts, without
from workbench.data.chat.thoughts import CLOSED, length_in
from workbench.data.conversations import Conversation, Turn
from workbench.data.templating.render import RenderingError, chat_text
from workbench.data.tokens.control_tokens import ControlTokens, control_tokens
from workbench.data.tokens.segments import Segment, merged, special_frame
from workbench.errors import DataError

UNREPORTED = ("id", "name", "tool_call_id", "instruction", "input")
"""Fields of a message that a template may leave out without a note to the user."""


class RewrittenError(DataError):
    """The chat template renders a trained answer in another way when the chat goes on."""


@dataclass(frozen=True)
class Answer:
    """An answer in a rendered conversation."""

    prompt: str
    """All rendered text before the answer, from which the model generates it."""
    text: str
    """The rendered answer with its end of turn."""


@dataclass(frozen=True)
class Renderer:
    """Renders conversations with one chat template, and splits the text into prompts and answers."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    is_own: bool
    """Whether the template is the tokenizer's or a file's; such a template writes the begin token itself."""
    is_file: bool = False
    """Whether `data.template` is a file, whose template is written like a tokenizer's."""
    tools_template: str | None = None
    """The tokenizer's separate template for conversations with tools, if it has one."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the template, from `data.template_arguments`."""
    masks_thoughts: bool = False
    """Whether the thoughts before answers carry no loss, as with `data.thoughts=mask`."""

    @cached_property
    def control(self) -> ControlTokens:
        """All special tokens of the tokenizer; a turn may begin or end with any of them."""
        return ControlTokens(control_tokens(self.tokenizer))

    @cached_property
    def marks(self) -> ControlTokens:
        """Strings that may end a turn: the tokenizer's special tokens, and each `<|...|>` in the template."""
        return ControlTokens((*self.control.tokens, *re.findall(r"<\|[^|<>\s]{1,40}\|>", self.template)))

    def prefix(self) -> list[int]:
        """Return the ids of the tokenizer's begin tokens; [] if the template writes begin tokens."""
        return [] if self.is_own else special_frame(self.tokenizer)[0]

    def prefix_text(self) -> str:
        """Return the tokens of `prefix` as a string, such as `<s>`."""
        return "".join(self.tokenizer.convert_ids_to_tokens(self.prefix()))

    @cached_property
    def beginning(self) -> list[int]:
        """Token ids that begin every sequence, such as `<s>`, from the tokenizer or the template."""
        bos = self.tokenizer.bos_token_id
        return special_frame(self.tokenizer)[0] or ([] if bos is None else [bos])

    def num_special(self, ids: Sequence[int]) -> int:
        """Return the number of begin tokens at the start of an encoded example; 0 if it lacks any of them."""
        count = len(self.beginning)
        return count if ids[:count] == self.beginning else 0

    def segments(self, conversation: Conversation) -> list[Segment]:
        """Render a conversation and split it into segments with loss (trained answers) and without.

        An answer includes its end of turn. With `masks_thoughts` its thought is in a segment without loss.

        Raises:
            RewrittenError: The template changes a trained answer when the chat goes on.
            DataError: The template refuses the turns.
        """
        messages = self.messages(conversation)
        text = self.render(messages, conversation, prompt=False)
        segments, done = self.split(text, messages, conversation)
        if not conversation.turns[-1].trained and done < len(text.rstrip()):
            segments.append(Segment(self.answer_and_rest(text[done:], True)[0], False))
        return merged(segments)

    def prompt(self, conversation: Conversation) -> list[Segment]:
        """Render a conversation with the header of the next answer: the model's input for generation.

        Raises:
            DataError: The template refuses the turns.
        """
        messages = self.messages(conversation)
        text = self.render(messages, conversation, prompt=True)
        segments, done = self.split(text, messages, conversation, is_prompt=True)
        return merged([*segments, Segment(text[done:], False)])

    def split(
        self,
        text: str,
        messages: list[dict[str, Any]],
        conversation: Conversation,
        *,
        is_prompt: bool = False,
    ) -> tuple[list[Segment], int]:
        """Split a rendered conversation up to the end of its last answer into segments.

        An untrained answer that the template changes when the chat goes on is part of the next prompt.
        Returns (the segments, unmerged; the index in `text` at which they end).

        Args:
            text: The rendered messages.
            messages: The messages of the conversation, from `messages`.
            conversation: The conversation.
            is_prompt: Whether the text is a prompt for generation, in which no answer is trained.

        Raises:
            RewrittenError: The template changes a trained answer.
        """
        segments: list[Segment] = []
        done, offset = 0, len(messages) - len(conversation.turns)
        for number, turn in enumerate(conversation.turns, start=offset):
            if turn.role != "assistant":
                continue
            answer = self.answer_in(text, messages, number, conversation)
            if answer is not None and len(answer.prompt) >= done:
                thought = length_in(answer.text, turn, answer.prompt) if self.masks_thoughts else 0
                segments.append(Segment(text[done : len(answer.prompt)], False))
                segments.append(Segment(answer.text[:thought], False, joins=False))
                segments.append(Segment(answer.text[thought:], turn.trained))
                done = len(answer.prompt) + len(answer.text)
            elif turn.trained and not is_prompt:
                raise RewrittenError(
                    f"{conversation.where}: the tokenizer's chat template changes earlier turns at turn "
                    f"{number + 1 - offset} (choose another data.template, such as chatml)"
                )
        return segments, done

    def answer_in(
        self, text: str, messages: list[dict[str, Any]], number: int, conversation: Conversation
    ) -> Answer | None:
        """Return the answer of message `number` as the model generates it; None if `text` has it otherwise.

        `text` is the full rendered conversation, whose end the last answer may lack.
        """
        prompt = self.render(messages[:number], conversation, prompt=True) if number else ""
        is_last = number == len(messages) - 1
        ended = text
        if not is_last:
            ended = self.prefix_of(text, self.render(messages[: number + 1], conversation, prompt=False))
        answer, _ = self.answer_and_rest(ended[len(prompt) :], is_last)
        has_answer = is_last or text.startswith(prompt + answer)
        return Answer(prompt, answer) if ended.startswith(prompt) and has_answer else None

    def prefix_of(self, full_text: str, rendered: str) -> str:
        """Return `rendered`, the first turns rendered alone, in the form in which `full_text` begins with it.

        That is without its end-of-sequence token if the template writes this after the last turn only; else
        unchanged, even if the full text begins otherwise.
        """
        bare = rendered.rstrip().removesuffix(str(self.tokenizer.eos_token))
        return (
            bare if full_text.startswith(bare) and not full_text.startswith(rendered.rstrip()) else rendered
        )

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """Convert turns to the messages that the template reads.

        A named template gets tools as an additional first message, and tool calls in the content, as JSON.
        """
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
        """Whether the tokenizer's template accepts the arguments of a tool call as an object.

        Transformers requires objects, and most templates write a string with a second pair of quotation
        marks; some templates accept only strings.
        """
        function = {"name": "f", "arguments": {"a": 1}}
        call = {"id": "call00001", "type": "function", "function": function}
        turns = (Turn("user", "a"), Turn("assistant", "", extra={"tool_calls": [call]}))
        probe = Conversation(where="", turns=turns)
        try:
            self.render([turn.message() for turn in turns], probe, prompt=False)
        except DataError:
            return False
        return True

    @cached_property
    def takes_parts(self) -> bool:
        """Whether the tokenizer's template writes a message's content only as a list of text blocks."""
        probe = Conversation(where="", turns=(Turn("user", "mark"), Turn("assistant", "mark")))
        messages = [turn.message() for turn in probe.turns]
        for form in (messages, [with_parts(message) for message in messages]):
            try:
                if self.render(form, probe, prompt=False).count("mark") == len(messages):
                    return form is not messages
            except DataError:
                continue
        return False

    @cached_property
    def takes_thoughts(self) -> bool:
        """Whether the tokenizer's template writes the field `reasoning_content` before the content."""
        written = self.written_answer({"reasoning_content": "reason"})
        return self.is_own and "reason" in written.partition("mark")[0]

    @cached_property
    def writes_empty_thought(self) -> bool:
        """Whether the tokenizer's template writes `<think></think>` before an answer without a thought."""
        return self.is_own and CLOSED in self.written_answer({}).partition("mark")[0]

    def written_answer(self, extra: Mapping[str, Any]) -> str:
        """Render a chat whose answer is `mark`, with the fields `extra`; "" if the template refuses it."""
        turns = (Turn("user", "a"), Turn("assistant", "mark", extra=extra))
        return self.writes(Conversation(where="", turns=turns)) or ""

    def unwritten(self, conversation: Conversation) -> list[str]:
        """Return the names of message fields (or `tools`) without which the rendered text is the same.

        Raises:
            DataError: The template refuses the turns, or ignores the tool calls of an answer without text.
        """
        names = dict.fromkeys(
            name for turn in conversation.turns for name in turn.extra if name not in UNREPORTED
        )
        reduced = {name: without(conversation, name) for name in names}
        if conversation.tools is not None:
            reduced["tools"] = replace(conversation, tools=None)
        if not reduced:
            return []
        full_text = self.render(self.messages(conversation), conversation, prompt=False)
        lost = [name for name, fewer in reduced.items() if self.writes(fewer) == full_text]
        if "tool_calls" in lost and any(
            turn.trained and not turn.text.strip() for turn in conversation.turns
        ):
            raise DataError(
                f"{conversation.where}: an answer is nothing but tool_calls, which the tokenizer's chat "
                "template does not write (choose another data.template, such as chatml)"
            )
        return lost

    def writes(self, conversation: Conversation) -> str | None:
        """Render all turns of a conversation; None if the template refuses them."""
        try:
            return self.render(self.messages(conversation), conversation, prompt=False)
        except DataError:
            return None

    def render(self, messages: list[dict[str, Any]], conversation: Conversation, *, prompt: bool) -> str:
        """Render messages, with `prompt` up to the header of an answer; raise a DataError if that fails."""
        try:
            return chat_text(
                self.tokenizer,
                messages,
                (self.tools_template if conversation.tools else None) or self.template,
                tools=conversation.tools if self.is_own else None,
                arguments=self.arguments,
                add_generation_prompt=prompt,
            )
        except RenderingError as error:
            raise DataError(
                f"{conversation.where}: {error.of_chat_template()} (leave the row out, or choose another "
                "data.template, such as chatml)"
            ) from error

    def answer_and_rest(self, text: str, is_last: bool) -> tuple[str, str]:
        """Split a rendered answer into (answer with its end of turn, white space after that).

        Without a control token at its end, the answer is all of `text`; if `is_last`, the end-of-sequence
        token is appended.
        """
        stripped = text.rstrip()
        if stripped.endswith(self.control.tokens):
            return stripped, text[len(stripped) :]
        return (text + str(self.tokenizer.eos_token), "") if is_last else (text, "")
