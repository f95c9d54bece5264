"""Reads the fields of a request's JSON object: types, ranges, lengths."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from workbench.data.readers.json_files import DoubledNameError, with_names_once
from workbench.serving.refusal import Refusal

Reader = Callable[[Any, str], Any]
"""Function of a field's value and name; returns the value, or raises Refusal."""

MOST_STOP_TEXTS = 16
MOST_STOP_CHARACTERS = 256
MOST_MESSAGES = 1024
MOST_TOP_LOGPROBS = 20
"""Maximum number of alternatives whose log-probabilities are reported at each token."""
ROLES = ("system", "user", "assistant")


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    Raises:
        Refusal: It isn't a JSON object in UTF-8, a field is there twice, or a number is NaN or infinite.
    """
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=with_names_once, parse_constant=_no_constant
        )
    except DoubledNameError:
        raise Refusal(400, "a field of the body is there twice") from None
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise Refusal(400, f"the body is not a JSON object in UTF-8{where}") from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body is not a JSON object")
    return value


def _no_constant(name: str) -> None:
    raise Refusal(400, f"the body has {name}, which is not a number of JSON")


def read_fields(
    values: Mapping[str, Any], readers: Mapping[str, Reader], neutral: Mapping[str, tuple[Any, ...]]
) -> dict[str, Any]:
    """Return field -> value as its reader returns it, for the fields of `readers` that the request has.

    A field that is null counts as missing. Fields in `neutral` are checked and left out.

    Args:
        values: The request's JSON object.
        readers: Field -> its reader.
        neutral: Further fields of the interface -> values under which they change nothing.

    Raises:
        Refusal: A field is unknown, has another value than its neutral ones, or its reader refuses it.
    """
    for name, value in values.items():
        if name not in readers and name not in neutral:
            known = ", ".join(sorted(readers))
            raise Refusal(400, f"{name[:80]!r} is not a field of this server (known: {known})", name[:80])
        if name in neutral and value is not None and not _is_one_of(value, neutral[name]):
            raise Refusal(400, f"{name}: not supported, so that it would have no effect (leave it out)", name)
    return {
        name: reader(values[name], name) for name, reader in readers.items() if values.get(name) is not None
    }


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in allowed)


def integer(least: int, most: int) -> Reader:
    """Return a reader of integers from `least` to `most`, both included."""

    def read(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Refusal(400, f"{name}: not an integer from {least:,} to {most:,}", name)
        return value

    return read


def number(least: float, most: float) -> Reader:
    """Return a reader of numbers from `least` to `most`, both included, which returns them as float."""

    def read(value: Any, name: str) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:  # exact also for integers beyond floats
            raise Refusal(400, f"{name}: not a number from {least:g} to {most:g}", name)
        return float(value)

    return read


def temperature(value: Any, name: str) -> float:
    """Return a temperature, 0 or from 0.0001 to 100; raise Refusal for any other value."""
    read: float = number(0, 100)(value, name)
    if 0 < read < 1e-4:
        raise Refusal(400, f"{name}: 0, or from 0.0001 to 100", name)
    return read


def flag(value: Any, name: str) -> bool:
    """Return a value that is true or false; raise Refusal for any other."""
    if not isinstance(value, bool):
        raise Refusal(400, f"{name}: neither true nor false", name)
    return value


def text(value: Any, name: str) -> str:
    """Return a value that is a text; raise Refusal for any other, and for half of a surrogate pair in it."""
    if not isinstance(value, str):
        raise Refusal(400, f"{name}: not a text", name)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Refusal(400, f"{name}: has half of a surrogate pair, which is not a character", name) from None
    return value


def stop_texts(value: Any, name: str) -> list[str]:
    """Return a stop text, or a list of at most MOST_STOP_TEXTS, as a list; raise Refusal for other values."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or len(values) > MOST_STOP_TEXTS:
        raise Refusal(400, f"{name}: not a text or a list of at most {MOST_STOP_TEXTS} texts", name)
    for stop in (text(stop, name) for stop in values):
        if not 0 < len(stop) <= MOST_STOP_CHARACTERS:
            raise Refusal(400, f"{name}: a text has from 1 to {MOST_STOP_CHARACTERS} characters", name)
    return list(values)


def prompts(value: Any, name: str) -> list[str | list[int]]:
    """Return the prompts in a value as a list: each a text, or each a list of token ids.

    The value is one prompt, or a list of prompts of one kind. Token ids aren't compared with a vocabulary.

    Raises:
        Refusal: The value has another form, or an empty list.
    """
    if isinstance(value, str):
        return [text(value, name)]
    if isinstance(value, list) and value:
        if all(type(token) is int for token in value):
            return [list(value)]
        if all(isinstance(prompt, str) for prompt in value):
            return [text(prompt, name) for prompt in value]
        if all(isinstance(prompt, list) and prompt for prompt in value) and all(
            type(token) is int for prompt in value for token in prompt
        ):
            return [list(prompt) for prompt in value]
    raise Refusal(400, f"{name}: not a text, a list of token ids, or a list of either", name)


def messages(value: Any, name: str) -> list[dict[str, str]]:
    """Return the messages of a chat, each with `role` and `content`; text parts of a content are joined.

    Raises:
        Refusal: The value has another form, or its last message is not the user's.
    """
    if not isinstance(value, list) or not 0 < len(value) <= MOST_MESSAGES:
        raise Refusal(400, f"{name}: not a list of 1 to {MOST_MESSAGES:,} messages", name)
    read = [_message(message, f"{name}[{index}]") for index, message in enumerate(value)]
    if read[-1]["role"] != "user":
        raise Refusal(400, f"{name}: the last message is not the user's", name)
    return read


def _message(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or value.keys() != {"role", "content"} or value["role"] not in ROLES:
        raise Refusal(400, f"{name}: not an object of role ({', '.join(ROLES)}) and content", name)
    parts = value["content"]
    if isinstance(parts, list):
        for part in parts:
            if not isinstance(part, dict) or part.keys() != {"type", "text"} or part["type"] != "text":
                raise Refusal(400, f"{name}.content: has a part that is not a text", name)
        parts = "".join(text(part["text"], f"{name}.content") for part in parts)
    return {"role": value["role"], "content": text(parts, f"{name}.content")}


def stream_options(value: Any, name: str) -> bool:
    """Return `include_usage` of the value: whether a stream ends with the numbers of tokens.

    Raises:
        Refusal: The value is not an object with at most this field, or the field is neither true nor false.
    """
    if not isinstance(value, dict) or value.keys() - {"include_usage"}:
        raise Refusal(400, f"{name}: not an object of include_usage", name)
    return flag(value.get("include_usage", False), f"{name}.include_usage")
