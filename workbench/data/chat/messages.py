"""Converts messages for chat templates that expect tool arguments as objects, or content as a list."""

from dataclasses import replace
from typing import Any

from workbench.data.conversations import Conversation
from workbench.data.readers.json_files import json_text


def with_parts(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with its content as a list of one text block, as multimodal templates expect."""
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def with_objects(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose tool calls have objects as arguments instead of JSON strings (OpenAI's form)."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [with_object(call) for call in calls]}


def with_object(call: Any) -> Any:
    """Parse the arguments of a tool call that are a JSON string of an object; leave other calls unchanged."""
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        return {**call, "function": with_object(call["function"])}
    try:
        arguments = json_text(call["arguments"])
    except (KeyError, TypeError, ValueError):
        return call
    return {**call, "arguments": arguments} if isinstance(arguments, dict) else call


def without(conversation: Conversation, name: str) -> Conversation:
    """Return a conversation without the field `name` in its messages, as if the row had not had the field."""
    turns = tuple(
        replace(turn, extra={key: value for key, value in turn.extra.items() if key != name})
        for turn in conversation.turns
    )
    return replace(conversation, turns=turns)
