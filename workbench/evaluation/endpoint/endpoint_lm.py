"""A model behind an endpoint in the place of a causal model: log-likelihoods and generated texts."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.config.serving.endpoint import EndpointConfig
from workbench.errors import EndpointError
from workbench.evaluation.endpoint.client import Client
from workbench.evaluation.endpoint.probe import trusted
from workbench.evaluation.endpoint.replies import text_of
from workbench.evaluation.endpoint.scorers import Echo, PromptLogprobs, Scorer, SglangGenerate
from workbench.evaluation.inference.encoding import context_length
from workbench.evaluation.inference.language_model import LanguageModel, Likelihood
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.inference.stop_rules import Endings
from workbench.evaluation.inference.token_texts import TokenTexts

PROBES = ("The capital of France is", "1, 2, 3, 4,", "小明说：“你好", "def main():\n")
"""Texts of the probe; several, because an answer may end after one token."""
MOST_STOP_TEXTS = 4
"""Stop texts that OpenAI's interface takes; all others are searched here."""
_T = TypeVar("_T")


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
        listed = self.client.get("models").get("data")
        models = {
            str(entry["id"]): entry
            for entry in (listed if isinstance(listed, list) else [])
            if isinstance(entry, dict) and "id" in entry
        }
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

    def complete(
        self, prompt: Sequence[int] | str, retries: int | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Send a completion request, greedy unless `fields` say otherwise; return the reply's JSON object.

        Args:
            prompt: Token ids or a text.
            retries: Most times that the request is sent again; None: as configured.
            fields: Further fields of the request.

        Raises:
            EndpointError: The endpoint refuses the request, or fails again and again.
        """
        tokens = prompt if isinstance(prompt, str) else list(prompt)
        sampling = {"temperature": 0, "top_p": 1, "seed": 0}  # else the endpoint's own defaults count
        values = {"model": self.name, "prompt": tokens, **sampling, **fields}
        return self.client.post("completions", values, retries)


class EndpointLM(LanguageModel):
    """Causal model behind an endpoint, with the tokenizer of its folder."""

    def __init__(
        self, model: EndpointModel, tokenizer: PreTrainedTokenizerBase, evaluate: EvaluateConfig
    ) -> None:
        """Wrap an endpoint; nothing is asked yet."""
        self.model = model  # type: ignore[assignment]
        self.endpoint = model
        # A scored text has one token more than `max_length`, and its echo comes with a generated one.
        most = context_length(self.model, tokenizer) - 2
        super().__init__(tokenizer, min(evaluate.max_length or most, most))
        self.vocabulary = len(tokenizer)
        self._takes_tokens = False
        self._scorer: Scorer | None = None

    def stream(self, requests: Sequence[TokenRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Yield index and likelihood of each request, in the order of the replies.

        The first call also sends the requests of `trusted`, which finds the interface whose log-probabilities
        can be trusted. Several requests are sent at once, by threads.

        Raises:
            EndpointError: The endpoint fails, or its log-probabilities can't be trusted.
        """
        scorer = self._scorer = self._scorer or trusted(
            self._scorers(), self.encode(PROBES), self.endpoint.client.shown
        )
        tasks = [lambda request=request: likelihood_by(scorer, request) for request in requests]
        yield from at_once(tasks, self.endpoint.settings.concurrency)

    def complete(self, tokens: Sequence[int], **fields: Any) -> dict[str, Any]:
        """Send a completion request of token ids, and return the reply.

        If the first request fails, a text is sent in its place: an endpoint that answers it, and can't read
        token ids, is refused without all retries.

        Raises:
            EndpointError: The endpoint fails.
        """
        if self._takes_tokens:
            return self.endpoint.complete(tokens, **fields)
        try:
            reply = self.endpoint.complete(tokens, retries=0, **fields)
        except EndpointError:
            self.endpoint.complete(PROBES[0], **fields)
            reply = self._again(tokens, **fields)
        self._takes_tokens = True
        return reply

    def _again(self, tokens: Sequence[int], **fields: Any) -> dict[str, Any]:
        """Send token ids again, after a text was answered in their place."""
        try:
            return self.endpoint.complete(tokens, retries=1, **fields)
        except EndpointError as error:
            raise EndpointError(
                f"{error}; it answers the same request with a text, so it seems not to take token ids"
            ) from error

    def _scorers(self) -> list[Scorer]:
        """Return the interfaces that the endpoint may have, in the order in which they are tried."""
        where, post = self.endpoint.client.shown, self.endpoint.client.post
        of_completions = (self.complete, self._ids_of, where)
        scorers: list[Scorer] = [Echo(*of_completions), PromptLogprobs(*of_completions)]
        if self.endpoint.is_only_model:  # /generate takes no name of a model
            scorers.append(SglangGenerate(post, where))
        return scorers

    def _ids_of(self, names: Sequence[str]) -> list[int] | None:
        """Return the ids of tokens from their texts, if each text is that of a single token."""
        ids = []
        for name in names:
            if name.startswith("token_id:") and name[9:].isdecimal():
                ids.append(int(name[9:]))
                continue
            fits = self._ids_by_text.get(name, [])
            if len(fits) != 1:
                return None
            ids.append(fits[0])
        return ids

    @cached_property
    def _ids_by_text(self) -> dict[str, list[int]]:
        """Text of a token in the middle of a text -> ids of the tokens with this text."""
        texts, ids = TokenTexts(self.tokenizer), defaultdict(list)
        for token in range(self.vocabulary):
            ids[texts.name(token)].append(token)
        return ids


class EndpointDecoder:
    """Continues prompts by an endpoint."""

    def __init__(self, lm: EndpointLM, limits: GenerationConfig, as_harness: bool) -> None:
        """Create a decoder; stop texts are also searched here, in the text that comes back.

        Args:
            lm: The endpoint and its tokenizer.
            limits: Sampling and end of an answer.
            as_harness: End an answer where lm-evaluation-harness ends it, as in `Decoder`.
        """
        self.lm, self.limits = lm, limits
        self.endings = Endings(lm.model, lm.tokenizer, limits.stop, as_harness)

    def stream(self, prompts: Sequence[list[int]], seeds: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield index and answer of each prompt, in the order of the replies.

        Args:
            prompts: Token ids.
            seeds: Seed of each answer's sampling; not used where the temperature is 0.

        Raises:
            EndpointError: The endpoint fails.
        """
        pairs = zip(prompts, seeds, strict=True)
        tasks = [lambda prompt=prompt, seed=seed: self._answer(prompt, seed) for prompt, seed in pairs]
        yield from at_once(tasks, self.lm.endpoint.settings.concurrency)

    def _answer(self, prompt: list[int], seed: str) -> str:
        limits, number = self.limits, hashlib.sha256(seed.encode("utf-8")).digest()[:4]
        fields: dict[str, Any] = {"max_tokens": limits.max_new_tokens, "temperature": limits.temperature}
        if limits.temperature:
            fields |= {"top_p": limits.top_p, "seed": int.from_bytes(number, "big") // 2}
            fields |= {"top_k": limits.top_k} if limits.top_k else {}
        if limits.stop:
            fields["stop"] = list(limits.stop[:MOST_STOP_TEXTS])
        reply = self.lm.complete(prompt, **fields)
        return self.endings.before_stop(text_of(reply, self.lm.endpoint.client.shown))


def likelihood_by(scorer: Scorer, request: TokenRequest) -> Likelihood:
    """Return the likelihood of a request's scored tokens."""
    scores = scorer.score(request.tokens, request.first)
    return Likelihood(math.fsum(scores.values), len(scores.values), scores.greedy)


def at_once(tasks: Sequence[Callable[[], _T]], most: int) -> Iterator[tuple[int, _T]]:
    """Yield index and result of each task as it ends; `most` tasks run at once, each in a thread.

    A task's error is raised here. After it no further task is begun, and the running ones are waited for.
    """
    numbered = enumerate(tasks)
    with ThreadPoolExecutor(most) as pool:
        running = {pool.submit(task): index for _, (index, task) in zip(range(most), numbered, strict=False)}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                index = running.pop(future)
                following = next(numbered, None)
                if following is not None and future.exception() is None:
                    running[pool.submit(following[1])] = following[0]
                yield index, future.result()
