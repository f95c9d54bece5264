"""Writes answers in the fields of OpenAI's interface."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from workbench.evaluation.inference.token_scores import TokenScore
from workbench.evaluation.inference.token_texts import TokenTexts
from workbench.serving.requests import Request

LEAST_LOGPROB = -9999.0
"""Written in place of minus infinity, which JSON doesn't have."""


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of an answer's tokens, with `echo` of the prompt's too."""

    tokens: list[int]
    parts: list[str]
    """Each token's part of the text."""
    scores: list[TokenScore | None]
    """None for a first token, which nothing comes before."""


@dataclass(frozen=True)
class Choice:
    """One answer."""

    text: str
    finish_reason: str
    """stop: ended by the model or a stop text; length: by max_tokens."""
    scores: Scores | None = None


@dataclass(frozen=True)
class Usage:
    """Numbers of tokens of a request."""

    prompt: int
    completion: int

    def fields(self) -> dict[str, int]:
        """Return the numbers in OpenAI's fields."""
        total = self.prompt + self.completion
        return {"prompt_tokens": self.prompt, "completion_tokens": self.completion, "total_tokens": total}


def envelope(request: Request) -> dict[str, Any]:
    """Return the fields besides the choices, which all chunks of a stream have in common: id, time, model."""
    chat = "chat.completion.chunk" if request.stream else "chat.completion"
    return {
        "id": f"{'chatcmpl' if request.is_chat else 'cmpl'}-{secrets.token_hex(12)}",
        "object": chat if request.is_chat else "text_completion",
        "created": int(time.time()),
        "model": request.model,
    }


def choice_fields(request: Request, index: int, choice: Choice, texts: TokenTexts) -> dict[str, Any]:
    """Return a whole answer."""
    fields: dict[str, Any] = {"index": index, "finish_reason": choice.finish_reason, "logprobs": None}
    if request.is_chat:
        fields["message"] = {"role": "assistant", "content": choice.text}
    else:
        fields["text"] = choice.text
    if choice.scores is not None:
        write = chat_logprobs if request.is_chat else completion_logprobs
        fields["logprobs"] = write(choice.scores, texts, request)
    return fields


def chunk_fields(request: Request, index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    """Return a chunk of an answer, or with a reason its end."""
    fields: dict[str, Any] = {"index": index, "finish_reason": finish_reason, "logprobs": None}
    if not request.is_chat:
        return {**fields, "text": text}
    return {**fields, "delta": {"content": text} if text else {}}


def completion_logprobs(scores: Scores, texts: TokenTexts, request: Request) -> dict[str, Any]:
    """Return log-probabilities as completions have them; `text_offset` counts characters of the text."""
    as_ids = request.return_tokens_as_token_ids
    top = [score and _top(score, texts, as_ids) for score in scores.scores]
    return {
        "tokens": [texts.name(token, as_ids) for token in scores.tokens],
        "token_logprobs": [score and _finite(score.logprob) for score in scores.scores],
        "top_logprobs": top if request.logprobs else None,
        "text_offset": [0, *accumulate(len(part) for part in scores.parts[:-1])][: len(scores.parts)],
    }


def _top(score: TokenScore, texts: TokenTexts, as_ids: bool) -> dict[str, float]:
    """Return text -> log-probability of the most likely tokens and of the token itself.

    Of several tokens with one text, it is the most likely one's.
    """
    top: dict[str, float] = {}
    for token, logprob in (*score.top, (score.token, score.logprob)):
        top.setdefault(texts.name(token, as_ids), _finite(logprob))
    return top


def chat_logprobs(scores: Scores, texts: TokenTexts, request: Request) -> dict[str, Any]:
    """Return log-probabilities as chat completions have them."""
    return {
        "content": [
            {
                **_token_fields(token, score.logprob, texts),
                "top_logprobs": [_token_fields(other, logprob, texts) for other, logprob in score.top],
            }
            for token, score in zip(scores.tokens, scores.scores, strict=True)
            if score is not None
        ],
        "refusal": None,
    }


def _token_fields(token: int, logprob: float, texts: TokenTexts) -> dict[str, Any]:
    name = texts.name(token)
    return {"token": name, "logprob": _finite(logprob), "bytes": list(name.encode("utf-8"))}


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def model_list(names: Sequence[str], created: int, lengths: dict[str, int]) -> dict[str, Any]:
    """Return the list of models; `lengths` has the tokens of each model's context."""
    return {"object": "list", "data": [model_fields(name, created, lengths[name]) for name in names]}


def model_fields(name: str, created: int, length: int) -> dict[str, Any]:
    """Return a model's fields."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "workbench",
        "max_model_len": length,
    }
