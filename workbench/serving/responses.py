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
    """Log-probabilities of an answer's tokens, with `echo` of the prompt's too; each list has one a token."""

    tokens: list[int]
    """Token ids."""
    parts: list[str]
    """Each token's part of the text."""
    scores: list[TokenScore | None]
    """Log-probabilities of the token and its alternatives; None for a prompt's first token."""


@dataclass(frozen=True)
class Choice:
    """One answer to a prompt."""

    text: str
    finish_reason: str
    """stop: ended by the model or a stop text; length: by max_tokens."""
    scores: Scores | None = None
    """Log-probabilities; None: the request asks for none."""


@dataclass(frozen=True)
class Usage:
    """Numbers of tokens of a request and its answers."""

    prompt: int
    """Tokens of all prompts."""
    completion: int
    """Tokens of all answers."""

    def fields(self) -> dict[str, int]:
        """Return the numbers, and their total, in OpenAI's fields."""
        total = self.prompt + self.completion
        return {"prompt_tokens": self.prompt, "completion_tokens": self.completion, "total_tokens": total}


def envelope(request: Request) -> dict[str, Any]:
    """Return the fields of an answer besides choices and usage: a new id, object, time and model.

    All chunks of a stream have the same ones, so it is called once for a request.
    """
    chat = "chat.completion.chunk" if request.stream else "chat.completion"
    return {
        "id": f"{'chatcmpl' if request.is_chat else 'cmpl'}-{secrets.token_hex(12)}",
        "object": chat if request.is_chat else "text_completion",
        "created": int(time.time()),
        "model": request.model,
    }


def choice_fields(request: Request, index: int, choice: Choice, texts: TokenTexts) -> dict[str, Any]:
    """Return an answer as an element of `choices`, in OpenAI's fields for completions or chats.

    Args:
        request: The request.
        index: Number of the answer in the request, from 0.
        choice: The answer.
        texts: Texts of the model's tokens, for log-probabilities.
    """
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
    """Return a chunk of a streamed answer as an element of `choices`, in OpenAI's fields.

    Args:
        request: The request.
        index: Number of the answer in the request, from 0.
        text: Next characters of the answer.
        finish_reason: Why the answer ends here; None: it goes on.
    """
    fields: dict[str, Any] = {"index": index, "finish_reason": finish_reason, "logprobs": None}
    if not request.is_chat:
        return {**fields, "text": text}
    return {**fields, "delta": {"content": text} if text else {}}


def completion_logprobs(scores: Scores, texts: TokenTexts, request: Request) -> dict[str, Any]:
    """Return log-probabilities in the fields of completions; `text_offset` counts characters of the text.

    `top_logprobs` is null if the request asks for no alternatives.
    """
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
    """Return log-probabilities in the fields of chat completions; tokens without a score are left out."""
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
    """Return the list of models in OpenAI's fields.

    Args:
        names: Names of the models.
        created: When the server was started, in seconds since 1970.
        lengths: Name -> tokens of the model's context.
    """
    return {"object": "list", "data": [model_fields(name, created, lengths[name]) for name in names]}


def model_fields(name: str, created: int, length: int) -> dict[str, Any]:
    """Return a model in OpenAI's fields, and `length`, the tokens of its context, as `max_model_len`.

    `created` is when the server was started, in seconds since 1970.
    """
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "workbench",
        "max_model_len": length,
    }
