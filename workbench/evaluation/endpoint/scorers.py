"""The interfaces by which servers tell log-probabilities of a prompt's tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workbench.evaluation.endpoint.replies import (
    UnsuitableError,
    first_choice,
    is_logprob,
    logprobs_of,
    prompt_tokens,
)

Complete = Callable[..., dict[str, Any]]
"""Sends a completion request of token ids, with further fields as keywords, and returns the reply."""
Post = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Sends a JSON object to a path, and returns the reply."""
ToIds = Callable[[Sequence[str]], list[int] | None]
"""Returns the ids of generated tokens from their names; None if a name fits several tokens or none."""


@dataclass(frozen=True)
class TokenScores:
    """Log-probabilities of tokens, in nats."""

    ids: list[int]
    values: list[float]
    best: list[float | None]
    """Log-probability of the most likely token at each position; None if the endpoint doesn't tell."""

    @property
    def greedy(self) -> bool:
        """Whether each token is the argmax; False if the endpoint doesn't tell it for one of them."""
        pairs = zip(self.values, self.best, strict=True)
        return all(best is not None and value >= best for value, best in pairs)


class Scorer(Protocol):
    """An interface that tells log-probabilities, of generated tokens and of a prompt's."""

    name: str
    """Name in messages."""

    def generate(self, prompt: Sequence[int], count: int) -> TokenScores | None:
        """Return `count` greedy tokens after a prompt; None if there are fewer, or their ids aren't clear.

        Raises:
            UnsuitableError: The endpoint doesn't have this interface.
        """

    def score(self, tokens: Sequence[int], first: int) -> TokenScores:
        """Return the log-probabilities of `tokens[first:]`, with `first` at least 1.

        Raises:
            UnsuitableError: The endpoint doesn't have this interface, or returns something else.
        """


class Echo:
    """The field `echo` of OpenAI's completions, which returns the prompt with its log-probabilities."""

    name = "echo"

    def __init__(self, complete: Complete, to_ids: ToIds, where: str) -> None:
        """Create a scorer; messages begin with `where`."""
        self._complete, self._to_ids, self._where = complete, to_ids, where

    def generate(self, prompt: Sequence[int], count: int) -> TokenScores | None:
        """See `Scorer`."""
        return _generated(
            self._complete(prompt, max_tokens=count, logprobs=1), count, self._to_ids, self._where
        )

    def score(self, tokens: Sequence[int], first: int) -> TokenScores:
        """See `Scorer`."""
        reply = self._complete(tokens, max_tokens=1, logprobs=1, echo=True)
        logprobs = logprobs_of(reply, len(tokens) + 1, self._where)
        count = prompt_tokens(reply)
        if count is not None and count != len(tokens):
            raise UnsuitableError(
                f"{self._where}: reads {count} tokens where {len(tokens)} were sent, as if it added a "
                "beginning token"
            )
        values = [value for value in logprobs.values[first:-1] if value is not None]
        return TokenScores(list(tokens[first:]), values, logprobs.best[first:-1])


class PromptLogprobs:
    """vLLM's field `prompt_logprobs` of completions: an object of token id -> log-probability for each token.

    Source: vLLM's documentation of its OpenAI-compatible server, extra parameters of completions.
    """

    name = "prompt_logprobs"

    def __init__(self, complete: Complete, to_ids: ToIds, where: str) -> None:
        """Create a scorer; messages begin with `where`."""
        self._complete, self._to_ids, self._where = complete, to_ids, where

    def generate(self, prompt: Sequence[int], count: int) -> TokenScores | None:
        """See `Scorer`."""
        fields = {"max_tokens": count, "logprobs": 1, "return_tokens_as_token_ids": True}
        reply = self._complete(prompt, **fields)
        return _generated(reply, count, self._to_ids, self._where)

    def score(self, tokens: Sequence[int], first: int) -> TokenScores:
        """See `Scorer`."""
        reply = self._complete(tokens, max_tokens=1, prompt_logprobs=1)
        entries = first_choice(reply, self._where).get("prompt_logprobs")
        if not isinstance(entries, list):
            raise UnsuitableError(f"{self._where}: returns no prompt_logprobs")
        if len(entries) != len(tokens):
            raise UnsuitableError(
                f"{self._where}: returns prompt_logprobs of {len(entries)} tokens where {len(tokens)} were "
                "sent"
            )
        values: list[float] = []
        best: list[float | None] = []
        for token, entry in zip(tokens[first:], entries[first:], strict=True):
            told = entry if isinstance(entry, dict) else {}
            numbers: dict[str, Any] = {
                key: fields.get("logprob") for key, fields in told.items() if isinstance(fields, dict)
            }
            value = numbers.get(str(token))
            if value is None or not is_logprob(value):
                raise UnsuitableError(f"{self._where}: has no prompt_logprobs of a token that was sent")
            values.append(value)
            best.append(max(number for number in numbers.values() if is_logprob(number)))
        return TokenScores(list(tokens[first:]), values, best)


class SglangGenerate:
    """SGLang's own path /generate, which reads a prompt from a position on and returns lists of triples.

    A triple has log-probability, token id and text. The position before the first scored token is asked for,
    whose own log-probability is null. Source: SGLang's documentation of its native API, parameters
    `return_logprob`, `logprob_start_len` and `top_logprobs_num`.
    """

    name = "/generate"

    def __init__(self, post: Post, where: str) -> None:
        """Create a scorer; messages begin with `where`."""
        self._post, self._where = post, where

    def generate(self, prompt: Sequence[int], count: int) -> TokenScores | None:
        """See `Scorer`."""
        facts = self._asked(prompt, {"max_new_tokens": count})
        ids, values = self._triples(facts.get("output_token_logprobs"))
        if len(ids) != count:
            return None
        return TokenScores(ids, [self._number(value) for value in values], [None] * count)

    def score(self, tokens: Sequence[int], first: int) -> TokenScores:
        """See `Scorer`."""
        fields = {"logprob_start_len": first - 1, "top_logprobs_num": 1}
        facts = self._asked(tokens, {"max_new_tokens": 1}, fields)
        ids, values = self._triples(facts.get("input_token_logprobs"))
        if ids != list(tokens[first - 1 :]):
            raise UnsuitableError(f"{self._where}: /generate returns log-probabilities of other tokens")
        tops = facts.get("input_top_logprobs")
        best = [
            max(filter(is_logprob, self._triples(top)[1]), default=None) if isinstance(top, list) else None
            for top in (tops if isinstance(tops, list) and len(tops) == len(ids) else [None] * len(ids))
        ]
        return TokenScores(ids[1:], [self._number(value) for value in values[1:]], best[1:])

    def _asked(
        self, tokens: Sequence[int], sampling: dict[str, Any], fields: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send a request, and return what the reply says about its tokens."""
        asked = {
            "input_ids": list(tokens),
            "sampling_params": {"temperature": 0, "repetition_penalty": 1, **sampling},
        }
        reply = self._post(self.name, {**asked, "return_logprob": True, **(fields or {})})
        facts = reply.get("meta_info")
        if not isinstance(facts, dict):
            raise UnsuitableError(f"{self._where}: the reply of /generate has no meta_info")
        return facts

    def _triples(self, entries: Any) -> tuple[list[int], list[Any]]:
        """Return ids and log-probabilities of a list of triples."""
        if not isinstance(entries, list) or not all(isinstance(e, list) and len(e) >= 2 for e in entries):
            raise UnsuitableError(f"{self._where}: /generate returns no log-probabilities of tokens")
        return [entry[1] for entry in entries], [entry[0] for entry in entries]

    def _number(self, value: Any) -> float:
        if not is_logprob(value):
            raise UnsuitableError(f"{self._where}: /generate returns no number as a log-probability")
        return float(value)


def _generated(reply: dict[str, Any], count: int, to_ids: ToIds, where: str) -> TokenScores | None:
    """Return the generated tokens of a completion; see `Scorer.generate`."""
    generated = logprobs_of(reply, None, where)
    ids = to_ids(generated.names)
    if len(generated.names) != count or ids is None:
        return None
    values = [value for value in generated.values if value is not None]
    if len(values) != count:
        raise UnsuitableError(f"{where}: returns no log-probability of a generated token")
    return TokenScores(ids, values, generated.best)
