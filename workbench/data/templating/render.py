"""Renders chat templates (byte for byte as transformers does) and the templates of benchmarks."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2
import numpy as np
from jinja2 import meta
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from workbench.data.templating.chat_environment import chat_environment
from workbench.data.templating.render_budget import MAX_CHARACTERS, MAX_SECONDS, BoundError
from workbench.data.templating.sandbox import MAX_SOURCE, BoundedEnvironment
from workbench.data.templating.template_errors import reason
from workbench.errors import DataError

SECONDS_EACH = 0.02
"""Mean processor time that a rendering may take if a template is rendered many times."""

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Fields of a message that contain its reasoning in data sets, the most common first."""

CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG "
"""Marker at the end of a message that the model is to continue; the rendered text is cut there."""

SET_HERE = ("messages", "tools", "documents", "add_generation_prompt", "additional_special_tokens")
"""Variables of chat templates, besides special tokens, that every rendering sets."""

FAILURES = (
    *(TemplateError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
    *(RuntimeError, SyntaxError, TypeError, ValueError),
)
"""Exceptions that an untrusted template can raise."""


class RenderingError(DataError):
    """A template can't be rendered. The message gives the reason; the caller adds the file and line."""

    @property
    def is_bound(self) -> bool:
        """Whether the template exceeded a limit.

        The message is then a predicate, as in `makes a text of ...`.
        """
        return isinstance(self.__cause__, BoundError | RecursionError | MemoryError)

    def of_chat_template(self) -> str:
        """Return the message as a sentence about the chat template."""
        return f"the chat template {'' if self.is_bound else 'refuses the turns, '}{self}"


class CompiledTemplate:
    """A compiled template or expression, whose renderings are limited each, and in their mean time."""

    def __init__(self, environment: BoundedEnvironment, text: str, expression: bool = False) -> None:
        """Compile a template, or with `expression` one Jinja expression.

        Raises:
            RenderingError: The template has a syntax error, or is too long.
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
        """Return the text of the template; `scope` maps its variables to values.

        The object must have been compiled as a template, not as an expression.

        Raises:
            RenderingError: The template fails, or exceeds a limit.
        """
        return str(self._timed(self._text, scope))

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Return the value of the expression; `scope` maps its variables to values.

        The object must have been compiled with `expression=True`.

        Raises:
            RenderingError: The expression fails, is undefined, or exceeds a limit.
        """
        return self._timed(self._value, scope)

    def _text(self, scope: Mapping[str, Any]) -> str:
        chunks, length = [], 0
        for chunk in self.template.generate(scope):
            chunks.append(chunk)
            length += len(chunk)
            if length > MAX_CHARACTERS:
                raise BoundError(f"makes a text of more than {MAX_CHARACTERS:,} characters")
        return "".join(chunks)

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
    arguments: Mapping[str, Any] | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
) -> str:
    """Render a conversation, byte for byte as `tokenizer.apply_chat_template` does, with limits.

    Args:
        tokenizer: Provides chat template and special tokens.
        messages: The turns, with `role` and `content`; they are not changed.
        template: Jinja text that replaces the tokenizer's template, or the name of one of its templates.
        tools: JSON schemas of functions; they may select the tokenizer's template for tools.
        arguments: Further variables of the template, such as `enable_thinking`.
        add_generation_prompt: End the text with the header of the next answer.
        continue_final_message: End the text with the last message, without its end of turn.

    Raises:
        RenderingError: There are no messages, or the template refuses them, fails, or exceeds a limit.
    """
    if not messages:
        raise RenderingError("the conversation has no messages")
    try:
        if not all(isinstance(tool, Mapping) for tool in tools or ()):
            raise TypeError("a tool is not a JSON object")
        source = tokenizer.get_chat_template(template, tools)  # type: ignore[arg-type]
        turns = [with_reasoning(plain(without_nulls(message))) for message in messages]
        if continue_final_message:
            mark_end(turns[-1], source)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RenderingError(" ".join(str(error).split())) from error
    special = plain(tokenizer.special_tokens_map)
    scope = {"messages": turns, "tools": plain(tools), "documents": None}
    scope |= {"add_generation_prompt": add_generation_prompt} | plain(arguments or {})
    text = chat_template(source).render(special | scope)
    return cut_at_mark(text) if continue_final_message else text


@lru_cache(maxsize=64)
def chat_template(text: str) -> CompiledTemplate:
    """Compile a chat template, or return it from the cache of the 64 used last.

    Raises:
        RenderingError: The template has a syntax error, or is too long.
    """
    return CompiledTemplate(chat_environment(), text)


def template_arguments(text: str) -> list[str]:
    """Return the sorted names of a chat template's variables that a caller may set, as `enable_thinking`.

    Variables in SET_HERE, and those that end with `_token`, aren't among them.

    Raises:
        RenderingError: The template has a syntax error.
    """
    try:
        names = meta.find_undeclared_variables(chat_environment().parse(text))
    except FAILURES as error:
        raise RenderingError(reason(error)) from error
    return sorted(name for name in names if name not in SET_HERE and not name.endswith("_token"))


def unused_argument(arguments: Mapping[str, Any], *templates: str) -> str:
    """Return a message about the first argument that none of the chat templates uses; "" if all are used.

    It begins with "NAME: the chat template has no such variable", without a key.

    Raises:
        RenderingError: A template has a syntax error.
    """
    used = sorted({name for template in templates for name in template_arguments(template)})
    known = f"it takes {', '.join(used)}" if used else "it takes none"
    unused = (name for name in arguments if name not in used)
    return next((f"{name}: the chat template has no such variable ({known})" for name in unused), "")


def without_nulls(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a message without its null fields: for templates, null is a missing field."""
    return {key: value for key, value in message.items() if value is not None}


def with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a message with its reasoning under both names that templates read.

    The names are `reasoning_content` and `thinking`. A message without reasoning is returned itself.
    """
    reasoning = next((message[name] for name in REASONING if message.get(name) is not None), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def plain(value: Any) -> Any:
    """Return a copy of a value that consists of plain JSON types and tuples.

    Values of subclasses, mappings, dataclasses and numpy scalars are converted; a value of any other type
    becomes the type's name, as `<Tensor>`.
    """
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
"""Type -> conversion of its values, and of its subclasses' values, to plain JSON types."""


def mark_end(message: dict[str, Any], source: str) -> None:
    """Append, in place, the marker CONTINUED to the content of the message that the model is to continue.

    Raises:
        ValueError: The template's text `source` doesn't mention `content`, or the message has no text.
    """
    if "content" not in source:
        raise ValueError("the chat template does not use 'content', so no message can be continued")
    content = message["content"]
    if isinstance(content, str):
        message["content"] = content + CONTINUED
        return
    texts = [block for block in content if "text" in block]
    if not texts:
        raise ValueError("the last message has no text, so it can't be continued")
    texts[-1]["text"] += CONTINUED


def cut_at_mark(text: str) -> str:
    """Return a rendered text up to its last marker CONTINUED, so that the model continues the last message.

    If the template has trimmed the message, white space before the marker is removed, too.

    Raises:
        RenderingError: The template does not write the last message.
    """
    index = text.rfind(CONTINUED.strip())
    if index < 0:
        raise RenderingError("the chat template does not write the last message, which is to be continued")
    prefix = text[:index]
    return prefix if text.startswith(CONTINUED, index) else prefix.rstrip()
