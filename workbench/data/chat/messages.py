"""Messages in the forms that chat templates take: arguments of calls as objects, texts as lists of parts."""

from dataclasses import replace
from typing import Any

from workbench.data.conversations import Conversation
from workbench.data.readers.json_files import json_text


def with_parts(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its text as the one part of a list, as templates of multimodal models take it."""
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def with_objects(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its calls' arguments as objects, where they are JSON text as in OpenAI's interface."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [with_object(call) for call in calls]}


def with_object(call: Any) -> Any:
    """A call with its arguments as an object; anything else as it is."""
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        return {**call, "function": with_object(call["function"])}
    try:
        arguments = json_text(call["arguments"])
    except (KeyError, TypeError, ValueError):
        return call
    return {**call, "arguments": arguments} if isinstance(arguments, dict) else call


def without(conversation: Conversation, name: str) -> Conversation:
    """The conversation whose messages lack one of their parts."""
    turns = conversation.turns
    kept = [{key: value for key, value in turn.extra.items() if key != name} for turn in turns]
    return replace(
        conversation, turns=tuple(map(lambda turn, extra: replace(turn, extra=extra), turns, kept))
    )
