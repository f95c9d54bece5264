"""A model behind an endpoint, whose weights aren't here."""

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from workbench.config.serving.endpoint import EndpointConfig
from workbench.errors import EndpointError
from workbench.evaluation.endpoint.client import Client
from workbench.evaluation.endpoint.replies import NoSuchPathError, UnsuitableError

SAMPLING = {"temperature": 0, "top_p": 1, "seed": 0}
"""Greedy answers, which each request asks for: without them the endpoint's own defaults count."""
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
        self._lock = threading.Lock()
        self._takes: dict[str, bool] = {}  # field -> whether the endpoint takes it, once that is known
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
        except UnsuitableError:
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
            neutral: Fields beyond OpenAI's interface that change nothing but the endpoint's own defaults; an
                endpoint that refuses them is asked without, which is logged.
            fields: Further fields of the request.

        Raises:
            EndpointError: The endpoint refuses the request, or fails again and again.
        """
        tokens = prompt if isinstance(prompt, str) else list(prompt)
        values = {"model": self.name, "prompt": tokens, **SAMPLING, **fields}
        try:
            return self.post("completions", values, retries, neutral or {})
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
        return self.post("chat/completions", values, None, neutral or {})

    def post(
        self, path: str, values: Mapping[str, Any], retries: int | None, neutral: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Send a JSON object to a path, in the fields that the endpoint takes; may be called by threads.

        A field that isn't known to be taken is left out after a refusal if it is in `neutral`, or gets its
        name in `OTHER_NAMES` if the refusal has that; later requests are sent so from the start.

        Raises:
            EndpointError: The endpoint refuses the request, or fails again and again.
        """
        takes = dict(self._takes)
        while True:
            renamed = {name: other for name, other in OTHER_NAMES.items() if takes.get(name) is False}
            body = {renamed.get(name, name): value for name, value in values.items()}
            body |= {name: value for name, value in neutral.items() if takes.get(name) is not False}
            unknown = [name for name in (*OTHER_NAMES, *neutral) if name in body and name not in takes]
            try:
                reply = self.client.post(path, body, retries)
            except UnsuitableError as error:
                named = [name for name in unknown if OTHER_NAMES.get(name, name) in str(error)]
                refused = named or [name for name in unknown if name in neutral]
                if not refused:
                    raise
                takes |= dict.fromkeys(refused, False)
            else:
                self._learn(takes | dict.fromkeys(unknown, True))
                return reply

    def _learn(self, takes: Mapping[str, bool]) -> None:
        """Remember which fields the endpoint takes, and log those that are left out from now on."""
        with self._lock:
            new = {name: is_taken for name, is_taken in takes.items() if name not in self._takes}
            self._takes.update(new)
        if left_out := [name for name in new if not new[name] and name not in OTHER_NAMES]:
            log.warning(
                "%s: takes no %s, so that its own default counts", self.client.shown, " and ".join(left_out)
            )
