"""Finds what a reply says about an error: in the status, or in an object that comes with status 200."""

import json
from collections.abc import Mapping
from typing import Any

from workbench.shown import clean

TEMPORARY = (408, 409, 425, 429)
"""Statuses below 500 after which a request is sent again."""
LASTING = (501, 505)
"""Statuses from 500 on after which it isn't."""
NAMED_STATUSES = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "server_error": 500,
    "overloaded_error": 529,
}
"""Name of an error, as OpenAI's and Anthropic's interfaces have it -> its status."""
LONGEST_MESSAGE = 300
_STATUS_FIELDS = ("code", "status", "status_code", "type")


def is_temporary(status: int) -> bool:
    """Return whether a request that failed with a status may be answered later."""
    return status in TEMPORARY or (500 <= status < 600 and status not in LASTING)


def json_of(data: bytes) -> Any:
    """Return the JSON value of a body; None if it has none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def error_in(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the error that a reply's JSON object has in the place of an answer, or of its only answer.

    Some gateways send status 200 once they have found a model, and its error as `error`; vLLM's older errors
    are the object itself, and an answer that broke off has one among `choices`.
    """
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    for place in (value, first if isinstance(first, dict) else {}):
        if error := place.get("error"):
            return error if isinstance(error, dict) else {"message": error}
    if value.get("object") == "error":
        return value
    if isinstance(first, dict) and first.get("finish_reason") == "error":
        return {"message": "an answer that ends by an error"}
    return None


def status_in(error: Mapping[str, Any]) -> int | None:
    """Return the status that an error object names by a number or a known name; None if it names none."""
    for told in (error.get(name) for name in _STATUS_FIELDS):
        status = NAMED_STATUSES.get(told, told) if isinstance(told, str) else told
        if isinstance(status, str) and status.isdecimal():
            status = int(status[:4])
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return None


def message_in(value: Any) -> str:
    """Return an endpoint's own words about an error, short, on one line and with secrets masked.

    Args:
        value: JSON value of the reply, or the error object in it. Some servers have no object around the
            message.
    """
    error = (value.get("error") or value) if isinstance(value, dict) else value
    words = (error.get("message") or error.get("detail") or error) if isinstance(error, dict) else error
    return one_line(words if isinstance(words, str) else json.dumps(words, ensure_ascii=False))


def one_line(text: str) -> str:
    """Return a text of an endpoint for a message: short, on one line and with secrets masked."""
    return clean(" ".join(text[:4000].split()))[:LONGEST_MESSAGE]
