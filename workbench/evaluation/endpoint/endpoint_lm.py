"""A model behind an endpoint in the place of a causal model: log-likelihoods, and prompts to continue."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.config.evaluate import EvaluateConfig
from workbench.data.tokens.segments import special_frame
from workbench.errors import EndpointError
from workbench.evaluation.endpoint.at_once import at_once
from workbench.evaluation.endpoint.client import GOES_ON
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.evaluation.endpoint.probe import trusted
from workbench.evaluation.endpoint.replies import UnsuitableError, prompt_tokens
from workbench.evaluation.endpoint.scorers import Echo, PromptLogprobs, Scorer, SglangGenerate
from workbench.evaluation.inference.encoding import context_length
from workbench.evaluation.inference.language_model import LanguageModel, Likelihood
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.inference.token_texts import TokenTexts

PROBES = ("The capital of France is", "1, 2, 3, 4,", "小明说：“你好", "def main():\n")
"""Texts of the probe; several, because an answer may end after one token."""


class TokenIdsError(UnsuitableError):
    """The endpoint reads prompts as texts only."""


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
        self.takes_tokens: bool | None = None
        """Whether the endpoint reads prompts of token ids; None: not asked yet."""
        self._scorer: Scorer | None = None

    def stream(self, requests: Sequence[TokenRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Yield index and likelihood of each request, in the order of the replies.

        The first call also sends the requests of `trusted`, which finds the interface whose log-probabilities
        can be trusted. Several requests are sent at once, by threads.

        Raises:
            EndpointError: The endpoint fails, or, as UnsuitableError, its log-probabilities can't be trusted.
        """
        scorer = self.check_likelihoods()
        tasks = [lambda request=request: likelihood_by(scorer, request) for request in requests]
        yield from at_once(tasks, self.endpoint.settings.concurrency)

    def check_likelihoods(self) -> Scorer:
        """Return the interface whose log-probabilities can be trusted; only the first call asks the endpoint.

        Raises:
            EndpointError: The endpoint fails, or, as UnsuitableError, its log-probabilities can't be trusted.
        """
        if self._scorer is None:
            self._scorer = trusted(self._scorers(), self.encode(PROBES), self.endpoint.client.shown)
        return self._scorer

    def complete(self, tokens: Sequence[int], **fields: Any) -> dict[str, Any]:
        """Send a completion request of token ids, and return the reply.

        If the first request fails, a text is sent in its place: an endpoint that answers it, and can't read
        token ids, is refused without all retries.

        Raises:
            TokenIdsError: The endpoint reads texts only.
            EndpointError: The endpoint fails.
        """
        if self.takes_tokens is not None:
            if self.takes_tokens:
                return self.endpoint.complete(tokens, **fields)
            raise TokenIdsError(f"{self.endpoint.client.shown}: takes no token ids, only texts")
        try:
            reply = self.endpoint.complete(tokens, retries=0, **fields)
        except EndpointError:
            self.endpoint.complete(PROBES[0], max_tokens=1)
            reply = self._again(tokens, **fields)
        self.takes_tokens = True
        return reply

    def _again(self, tokens: Sequence[int], **fields: Any) -> dict[str, Any]:
        """Send token ids again, after a text was answered in their place."""
        try:
            return self.endpoint.complete(tokens, retries=1, **fields)
        except EndpointError as error:
            self.takes_tokens = False
            raise TokenIdsError(
                f"{str(error).removesuffix(GOES_ON)}; it answers the same request with a text, so it seems "
                "not to take token ids"
            ) from error

    def continue_prompt(self, tokens: Sequence[int], **fields: Any) -> dict[str, Any]:
        """Have a prompt continued; it is sent as a text to an endpoint that takes no token ids.

        Raises:
            EndpointError: The endpoint fails, or makes other tokens of the text.
        """
        try:
            return self.complete(tokens, **fields)
        except TokenIdsError:
            reply = self.endpoint.complete(self._text_of(tokens), **fields)
        count = prompt_tokens(reply)
        if count is not None and count != len(tokens):
            raise EndpointError(
                f"{self.endpoint.client.shown}: takes no token ids, and makes {count} tokens of a text of "
                f"{len(tokens)} (another tokenizer or beginning token)"
            )
        return reply

    def _text_of(self, tokens: Sequence[int]) -> str:
        """Return the text of which the tokenizer makes these tokens.

        Raises:
            EndpointError: There is none.
        """
        added = list(special_frame(self.tokenizer)[0])
        rest = tokens[len(added) :] if list(tokens[: len(added)]) == added else tokens
        text = str(self.tokenizer.decode(list(rest), skip_special_tokens=False))
        if self.encode([text])[0] != list(tokens):
            raise EndpointError(
                f"{self.endpoint.client.shown}: takes no token ids, and {text[:80]!r} has other tokens than "
                "the prompt"
            )
        return text

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


def likelihood_by(scorer: Scorer, request: TokenRequest) -> Likelihood:
    """Return the likelihood of a request's scored tokens."""
    scores = scorer.score(request.tokens, request.first)
    return Likelihood(math.fsum(scores.values), len(scores.values), scores.greedy)
