"""Servers that answer almost as they should: each hands requests on to a right one and spoils something."""

import json
from collections.abc import Callable
from typing import Any

from json_server import JsonServer, Reply, ask

Spoil = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
"""Function of a request and its right answer; returns the wrong answer."""


Fails = Callable[[dict[str, Any]], int | None]
"""Function of a request; returns the status to fail with, or None to hand the request on."""


def first(*statuses: int) -> Fails:
    """Fails the first requests with these statuses."""
    left = list(statuses)
    return lambda body: left.pop(0) if left else None


class Spoiled(JsonServer):
    """A server in front of the one at `port`."""

    def __init__(
        self, port: int, change: Callable[[str, dict], dict], spoil: Spoil, fails: Fails | None = None
    ) -> None:
        self.fails, self.spoil = fails, spoil

        def reply(path: str, body: dict[str, Any] | None) -> Reply:
            if body is None:
                return ask(port, path, None)
            if self.fails and (status := self.fails(body)):
                return status, {"error": {"message": "not now"}}
            status, answer = ask(port, path, change(path, json.loads(json.dumps(body))))
            return status, self.spoil(body, answer) if status == 200 else answer

        super().__init__(reply)


def unchanged(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return body


def right(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return answer


def without_echo(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ignores echo."""
    return {name: value for name, value in body.items() if name != "echo"}


def shifted(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Values of an echo belong to the token before."""
    if body.get("echo"):
        logprobs = answer["choices"][0]["logprobs"]
        for name in ("token_logprobs", "top_logprobs"):
            logprobs[name] = [None, *logprobs[name][2:], logprobs[name][-1]]
    return answer


def shortened(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The last entry of an echo is lost."""
    if body.get("echo"):
        for name, values in answer["choices"][0]["logprobs"].items():
            answer["choices"][0]["logprobs"][name] = values[:-1]
    return answer


def zeros(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """All log-probabilities are 0."""
    logprobs = answer["choices"][0]["logprobs"]
    if logprobs:
        logprobs["token_logprobs"] = [value and 0.0 for value in logprobs["token_logprobs"]]
    return answer


def without_first(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The first log-probability is missing, of generated tokens too."""
    answer["choices"][0]["logprobs"]["token_logprobs"][0] = None
    return answer


def with_beginning(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Puts a beginning token before token ids."""
    return {**body, "prompt": [1, *body["prompt"]]} if isinstance(body.get("prompt"), list) else body
