"""The one renderer of templates: chat templates as transformers renders them, and templates of benchmarks."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2
import numpy as np
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from workbench.data.templating.chat_environment import chat_environment
from workbench.data.templating.render_budget import MAX_CHARACTERS, MAX_SECONDS, BoundError
from workbench.data.templating.sandbox import MAX_SOURCE, BoundedEnvironment, reason
from workbench.errors import DataError

SECONDS_EACH = 0.02
"""Processor time of a rendering, on average over many."""
REASONING = ("reasoning_content", "thinking", "reasoning")
CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG "

FAILURES = (
    *(TemplateError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
    *(RuntimeError, SyntaxError, TypeError, ValueError),
)
"""What a template of others can raise."""


class RenderingError(DataError):
    """A template that can't be rendered; the message is the reason alone, the caller names the place."""

    @property
    def is_bound(self) -> bool:
        """The template would use more than it may; the message is a predicate, such as `makes ...`."""
        return isinstance(self.__cause__, BoundError | RecursionError | MemoryError)

    def of_chat_template(self) -> str:
        """The reason with its subject, for conversations."""
        return f"the chat template {'' if self.is_bound else 'refuses the turns, '}{self}"


class CompiledTemplate:
    """A template, compiled once; all its renderings together are held to a time, too."""

    def __init__(self, environment: BoundedEnvironment, text: str, expression: bool = False) -> None:
        """Compile it.

        Raises:
            RenderingError: it does not parse, or is too long.
        """
        self.environment = environment
        self.seconds, self.count = 0.0, 0
        environment.start()
        try:
            if len(text) > MAX_SOURCE:
                raise BoundError(f"is a template of more than {MAX_SOURCE:,} characters")
            if expression:
                self.expression = environment.compile_expression(text, undefined_to_none=False)
            else:
                self.template = environment.from_string(text)
        except FAILURES as error:
            raise RenderingError(reason(error)) from error

    def render(self, scope: Mapping[str, Any]) -> str:
        """The text of the template over variables.

        Raises:
            RenderingError: it fails, or would use more than a rendering may.
        """
        return str(self._timed(self._text, scope))

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value of the expression over variables; see `render`."""
        return self._timed(self._value, scope)

    def _text(self, scope: Mapping[str, Any]) -> str:
        pieces, length = [], 0
        for piece in self.template.generate(scope):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_CHARACTERS:
                raise BoundError(f"makes a text of more than {MAX_CHARACTERS:,} characters")
        return "".join(pieces)

    def _value(self, scope: Mapping[str, Any]) -> Any:
        value = self.expression(scope)
        if isinstance(value, jinja2.StrictUndefined):
            str(value)
        self.environment.check_function(value)
        return value

    def _timed(self, compute: Callable[[Mapping[str, Any]], Any], scope: Mapping[str, Any]) -> Any:
        self.environment.start()
        started = time.thread_time()
        try:
            if self.seconds > MAX_SECONDS + SECONDS_EACH * self.count:
                raise BoundError(f"takes {self.seconds:.0f} seconds for {self.count:,} texts")
            return compute(scope)
        except FAILURES as error:
            raise RenderingError(reason(error)) from error
        finally:
            self.count += 1
            self.seconds += time.thread_time() - started


def chat_text(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    template: str | None = None,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
) -> str:
    """A conversation as text, byte for byte as `tokenizer.apply_chat_template` makes it, within bounds.

    Args:
        tokenizer: Whose chat template and special tokens are used.
        messages: The turns, with `role` and `content`.
        template: A template instead of the tokenizer's own.
        tools: JSON schemas of functions.
        add_generation_prompt: The text ends where the next answer begins.
        continue_final_message: The text ends within the last message.

    Raises:
        RenderingError: the template refuses the turns, fails, or would use more than a rendering may.
    """
    if not messages:
        raise RenderingError("a conversation without messages")
    try:
        if not all(isinstance(tool, Mapping) for tool in tools or ()):
            raise TypeError("a tool that is not a JSON object")
        source = tokenizer.get_chat_template(template, tools)  # type: ignore[arg-type]
        turns = [with_reasoning(plain(without_nulls(message))) for message in messages]
        if continue_final_message:
            mark_end(turns[-1], source)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RenderingError(" ".join(str(error).split())) from error
    special = plain(tokenizer.special_tokens_map)
    scope = {"messages": turns, "tools": plain(tools), "documents": None}
    text = chat_template(source).render({**special, **scope, "add_generation_prompt": add_generation_prompt})
    return cut_at_mark(text) if continue_final_message else text


@lru_cache(maxsize=64)
def chat_template(text: str) -> CompiledTemplate:
    """A chat template, compiled once."""
    return CompiledTemplate(chat_environment(), text)


def without_nulls(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without its null fields, which templates take for missing ones."""
    return {key: value for key, value in message.items() if value is not None}


def with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose thoughts stand under all the names that templates read."""
    thoughts = next((message[name] for name in REASONING if message.get(name) is not None), None)
    if thoughts is None:
        return message
    return {"thinking": thoughts, **message, "reasoning_content": thoughts}


def plain(value: Any) -> Any:
    """A value out of JSON's types alone; of anything else a template sees the type's name."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    for kind, bare in BARE.items():
        if isinstance(value, kind):
            return bare(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return f"<{type(value).__name__}>"


BARE: Mapping[type, Callable[[Any], Any]] = {
    dict: lambda value: {plain(key): plain(item) for key, item in value.items()},
    list: lambda value: [plain(item) for item in value],
    tuple: lambda value: tuple(plain(item) for item in value),
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    Mapping: lambda value: {plain(key): plain(item) for key, item in value.items()},
    np.generic: lambda value: plain(value.item()),
}
"""How a value of a type, or of one derived from it, becomes one of JSON's own."""


def mark_end(message: dict[str, Any], source: str) -> None:
    """Put a mark behind the text of the last message, which `cut_at_mark` finds again."""
    if "content" not in source:
        raise ValueError("the chat template does not write 'content', so nothing can be continued")
    content = message["content"]
    if isinstance(content, str):
        message["content"] = content + CONTINUED
        return
    block = next(block for block in reversed(content) if "text" in block)
    block["text"] += CONTINUED


def cut_at_mark(text: str) -> str:
    """The text up to the mark, without white space that a template has trimmed there.

    Raises:
        RenderingError: the template does not write the last message.
    """
    place = text.rfind(CONTINUED.strip())
    if place < 0:
        raise RenderingError("the chat template does not write the last message, which was to be continued")
    kept = text[:place]
    return kept if text.startswith(CONTINUED, place) else kept.rstrip()
