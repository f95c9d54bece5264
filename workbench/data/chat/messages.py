"""Converts messages for chat templates that expect tool arguments as objects, or content as a list."""

from dataclasses import replace
from typing import Any

from workbench.data.conversations import Conversation
from workbench.data.readers.json_files import json_text


def with_parts(message: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a message with its content as a list of one text block, for multimodal templates."""
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def with_objects(message: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a message whose tool calls have objects as arguments instead of JSON strings.

    JSON strings are OpenAI's form. A message without a list of tool calls is returned itself.
    """
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [with_object(call) for call in calls]}


def with_object(call: Any) -> Any:
    """Return a copy of a tool call with its arguments parsed from a JSON string to an object.

    A call whose arguments are anything else is returned itself.
    """
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        return {**call, "function": with_object(call["function"])}
    try:
        arguments = json_text(call["arguments"])
    except (KeyError, TypeError, ValueError):
        return call
    return {**call, "arguments": arguments} if isinstance(arguments, dict) else call


def without(conversation: Conversation, name: str) -> Conversation:
    """Return a copy of a conversation without the extra field `name` in its turns."""
    turns = tuple(
        replace(turn, extra={key: value for key, value in turn.extra.items() if key != name})
        for turn in conversation.turns
    )
    return replace(conversation, turns=turns)
