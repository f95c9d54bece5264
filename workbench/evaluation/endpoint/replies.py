"""Reads log-probabilities and texts from an endpoint's replies, and refuses malformed ones."""

import math
from dataclasses import dataclass
from typing import Any, TypeGuard

from workbench.errors import EndpointError

ROUNDING = 1e-4
"""Nats by which a log-probability may be above 0."""


class UnsuitableError(EndpointError):
    """The endpoint refuses a kind of request, or its reply lacks what was asked for; another kind may do."""


class NoSuchPathError(UnsuitableError):
    """The endpoint has no such path, or no such model."""


class RefusedRequestError(UnsuitableError):
    """The endpoint refuses the request's content, with status 400 or 422; without some field it may not."""


class FailedStatusError(EndpointError):
    """The endpoint answers, and again and again with a status such as 500."""


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probabilities of a text's tokens, in nats."""

    names: list[str]
    """The endpoint's text of each token."""
    values: list[float | None]
    """None for the first token of an echoed prompt."""
    best: list[float | None]
    """Log-probability of the most likely token at each position; None if the endpoint doesn't tell."""


def first_choice(reply: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the JSON object of a reply's only answer.

    Args:
        reply: The reply's JSON object.
        where: The endpoint, with which the message starts.

    Raises:
        UnsuitableError: The reply has no answer, or several.
    """
    choices = reply.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise UnsuitableError(f"{where}: a reply without exactly one answer")
    return choices[0]


def text_of(reply: dict[str, Any], where: str) -> str:
    """Return the text of a completion.

    Args:
        reply: The reply's JSON object.
        where: The endpoint, with which the message starts.

    Raises:
        UnsuitableError: The reply hasn't exactly one answer with a text.
    """
    text = first_choice(reply, where).get("text")
    if not isinstance(text, str):
        raise UnsuitableError(f"{where}: a reply without a text")
    return whole_characters(text)


def finish_reason_of(reply: dict[str, Any]) -> str | None:
    """Return why the only answer of a reply ends, `stop` or `length`; None if the reply says neither."""
    reason = reply["choices"][0].get("finish_reason")
    return reason if reason in ("stop", "length") else None


def message_of(reply: dict[str, Any], where: str) -> str:
    """Return the text of a chat's answer; empty if it has none, as an answer cut off within a thought.

    Args:
        reply: The reply's JSON object.
        where: The endpoint, with which the message starts.

    Raises:
        UnsuitableError: The reply hasn't exactly one message.
    """
    message = first_choice(reply, where).get("message")
    content = message.get("content") if isinstance(message, dict) else 0
    if not isinstance(content, str | None):
        raise UnsuitableError(f"{where}: a reply without a message")
    return whole_characters(content or "")


def whole_characters(text: str) -> str:
    """Return a text with U+FFFD for each half of a surrogate pair, which no file in UTF-8 can have."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def logprobs_of(reply: dict[str, Any], num_tokens: int | None, where: str) -> TokenLogprobs:
    """Return the log-probabilities of a completion.

    Args:
        reply: The reply.
        num_tokens: Number of tokens that it must have: those of the echoed prompt, and the generated ones;
            None: any.
        where: The endpoint, for messages.

    Raises:
        UnsuitableError: There are none, of another number of tokens, or they can't be log-probabilities.
    """
    fields = first_choice(reply, where).get("logprobs")
    if not isinstance(fields, dict) or not isinstance(fields.get("token_logprobs"), list):
        raise UnsuitableError(f"{where}: returns no log-probabilities of tokens")
    values: list[Any] = fields["token_logprobs"]
    names, tops = fields.get("tokens"), fields.get("top_logprobs")
    if len(values) != (len(values) if num_tokens is None else num_tokens):
        raise UnsuitableError(
            f"{where}: returns log-probabilities of {len(values)} tokens where {num_tokens} were asked for "
            "(prompt and generated ones)"
        )
    if not isinstance(names, list) or len(names) != len(values):
        raise UnsuitableError(f"{where}: returns other tokens than log-probabilities")
    if not all(is_logprob(value) or (value is None and not index) for index, value in enumerate(values)):
        raise UnsuitableError(f"{where}: returns a log-probability that is missing, above 0 or no number")
    best = [
        max((value for value in top.values() if is_logprob(value)), default=None)
        if isinstance(top, dict)
        else None
        for top in (tops if isinstance(tops, list) and len(tops) == len(values) else [None] * len(values))
    ]
    return TokenLogprobs([str(name) for name in names], values, best)


def prompt_tokens(reply: dict[str, Any]) -> int | None:
    """Return the number of prompt tokens that the endpoint has read; None if its reply doesn't say."""
    usage = reply.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None


def is_logprob(value: Any) -> TypeGuard[float]:
    """Return whether a value of a reply can be a log-probability in nats."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value <= ROUNDING
