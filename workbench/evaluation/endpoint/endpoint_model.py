"""A model behind an endpoint, whose weights aren't here."""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from workbench.config.serving.endpoint import EndpointConfig
from workbench.errors import EndpointError
from workbench.evaluation.endpoint.client import Client
from workbench.evaluation.endpoint.replies import (
    FailedStatusError,
    NoSuchPathError,
    RefusedRequestError,
    UnsuitableError,
)

SAMPLING = {"temperature": 0, "top_p": 1, "seed": 0}
"""Greedy answers, which each request asks for: without them the endpoint's own defaults count."""
NEUTRAL = {"repetition_penalty": 1, "repeat_penalty": 1}
"""No penalty of repetition, by its name at most servers and at llama.cpp's, whose default may be 1.1."""
OTHER_NAMES = {"max_tokens": "max_completion_tokens"}
"""Field -> the name by which newer models of OpenAI take it, and which their refusal of the field says."""

log = logging.getLogger("workbench")


class _Config:
    """The part of a model's configuration that is known of an endpoint's."""

    def __init__(self, max_length: int | None) -> None:
        self.max_position_embeddings = max_length

    def get_text_config(self) -> "_Config":
        return self


class EndpointModel(nn.Module):
    """A model behind an endpoint; it has no weights here."""

    dtype = torch.bfloat16
    """What is taken for the endpoint's number format, which it doesn't tell."""
    device = torch.device("cpu")

    def __init__(self, url: str, config: EndpointConfig) -> None:
        """Ask the endpoint for its models, and choose `endpoint.model`, or else the only one.

        Raises:
            ConfigError: The address is refused.
            EndpointError: The endpoint can't be reached, doesn't have the named model, or has several models
                and none is named.
        """
        super().__init__()
        self.client, self.settings = Client(url, config), config
        self.check_others: Callable[[], None] | None = None
        """Compares answers that were kept for other benchmarks; None: there are none, or it was done."""
        self._learning = threading.Lock()
        self._takes: dict[str, dict[str, bool]] = {}
        """Path -> field -> whether the endpoint takes it, once that is known."""
        models = self._listed()
        if config.model is None and len(models) != 1:
            raise EndpointError(
                f"{self.client.shown}: has the models {', '.join(models) or 'none'} "
                "(endpoint.model=NAME chooses)"
            )
        self.name = config.model or next(iter(models))
        if models and self.name not in models:
            raise EndpointError(
                f"{self.client.shown}: has no model {self.name!r} (it has {', '.join(models)})"
            )
        self.is_only_model = len(models) == 1
        length = models.get(self.name, {}).get("max_model_len")
        self.config = _Config(length if isinstance(length, int) and length > 0 else None)

    def _listed(self) -> dict[str, dict[str, Any]]:
        """Return what the endpoint says about each of its models.

        Raises:
            EndpointError: It can't be reached, or has no such list and `endpoint.model` names none.
        """
        retries = None if self.settings.model is None else 0
        try:
            listed = self.client.get("models", retries).get("data")
        except (UnsuitableError, FailedStatusError):
            if self.settings.model is None:
                raise
            listed = None
        entries = listed if isinstance(listed, list) else []
        return {str(entry["id"]): entry for entry in entries if isinstance(entry, dict) and "id" in entry}

    def complete(
        self,
        prompt: Sequence[int] | str,
        retries: int | None = None,
        neutral: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Send a completion request, greedy unless `fields` say otherwise; return the reply's JSON object.

        Args:
            prompt: Token ids or a text.
            retries: Most times that the request is sent again; None: as configured.
            neutral: Fields beyond OpenAI's interface that an endpoint which refuses them is asked without,
                which is logged; None: `NEUTRAL`.
            fields: Further fields of the request.

        Raises:
            EndpointError: The endpoint refuses the request, or fails again and again.
        """
        tokens = prompt if isinstance(prompt, str) else list(prompt)
        values = {"model": self.name, "prompt": tokens, **SAMPLING, **fields}
        try:
            return self.post("completions", values, retries, NEUTRAL if neutral is None else neutral)
        except NoSuchPathError as error:
            raise NoSuchPathError(f"{error} (endpoint.api=chat if it has chats alone)") from error

    def chat(
        self, messages: list[dict[str, Any]], neutral: Mapping[str, Any] | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Send a chat, to be answered greedily unless `fields` say otherwise; return the reply's JSON object.

        `neutral` is as in `complete`.

        Raises:
            EndpointError: The endpoint refuses the request, or fails again and again.
        """
        values = {"model": self.name, "messages": messages, **SAMPLING, **fields}
        return self.post("chat/completions", values, None, NEUTRAL if neutral is None else neutral)

    def post(
        self, path: str, values: Mapping[str, Any], retries: int | None, neutral: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Send a JSON object to a path, in the fields that the endpoint takes; may be called by threads.

        A field that isn't known to be taken is left out after a refusal if it is in `neutral`, or gets its
        name in `OTHER_NAMES` if the refusal has that; later requests are sent so from the start. Until all
        fields are known, one request is sent after the other, so that a field is refused once.

        Raises:
            EndpointError: The endpoint refuses the request, or fails again and again.
        """
        names = {name for name in (*OTHER_NAMES, *neutral) if name in values or name in neutral}
        if not names <= self._takes.setdefault(path, {}).keys():
            with self._learning:
                if unknown := names - self._takes[path].keys():
                    return self._learn(path, values, retries, neutral, unknown)
        return self.client.post(path, body_of(values, neutral, self._takes[path]), retries)

    def _learn(
        self,
        path: str,
        values: Mapping[str, Any],
        retries: int | None,
        neutral: Mapping[str, Any],
        unknown: set[str],
    ) -> dict[str, Any]:
        """Send a request in fewer fields until it is taken, and remember which of the unknown ones are."""
        takes = dict(self._takes[path])
        while True:
            body = body_of(values, neutral, takes)
            present = [name for name in body if name in unknown and name not in takes]
            try:
                reply = self.client.post(path, body, retries)
            except RefusedRequestError as error:
                refused = _refused(present, neutral, str(error))
                if not refused:
                    raise
                takes |= dict.fromkeys(refused, False)
            else:
                takes |= dict.fromkeys(present, True)
                self._takes[path] = takes
                _warn(takes, unknown, neutral, self.client.shown)
                return reply


def body_of(
    values: Mapping[str, Any], neutral: Mapping[str, Any], takes: Mapping[str, bool]
) -> dict[str, Any]:
    """Return a request's fields by the names that an endpoint takes, without neutral ones that it doesn't.

    Args:
        values: The fields.
        neutral: Fields that may be left out.
        takes: Field -> whether the endpoint takes it; others are unknown, and sent.
    """
    renamed = {name: other for name, other in OTHER_NAMES.items() if takes.get(name) is False}
    body = {renamed.get(name, name): value for name, value in values.items()}
    return body | {name: value for name, value in neutral.items() if takes.get(name) is not False}


def _refused(present: Sequence[str], neutral: Mapping[str, Any], message: str) -> list[str]:
    """Return the field that a refusal names first, before its list of known ones; else all neutral fields.

    `present` are the request's fields that aren't known to be taken. [] if none of them can be meant.
    """
    words = {name: OTHER_NAMES.get(name) or name for name in present}
    named = [name for name in present if words[name] in message]
    if named:
        return [min(named, key=lambda name: message.index(words[name]))]
    return [name for name in present if name in neutral]


def _warn(
    takes: Mapping[str, bool], unknown: Collection[str], neutral: Mapping[str, Any], where: str
) -> None:
    """Log the neutral fields that an endpoint takes by none of their names; `unknown` were tried just now."""
    left_out = [name for name in neutral if name in unknown and not takes.get(name) and name not in NEUTRAL]
    if "repetition_penalty" in neutral and not any(takes.get(name) for name in NEUTRAL):
        left_out.append("repetition_penalty")
    if left_out:
        log.warning("%s: takes no %s, so that its own default counts", where, " and ".join(left_out))
