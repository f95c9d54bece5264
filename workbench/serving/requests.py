"""Reads the body of a request as a `Request`, and refuses what it doesn't know.

`answering` compares the lengths with the model's context.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.config.serving.serve import ServeConfig
from workbench.serving import fields
from workbench.serving.fields import Reader
from workbench.serving.refusal import Refusal

MAX_TOKENS = 16
"""Tokens of a completion without max_tokens, as in OpenAI's interface."""
LARGEST_SEED = 2**63 - 1
LONGEST_USER = 512

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
"""Fields that the server doesn't apply -> values under which they change nothing."""
NEUTRAL_COMPLETION = {**NEUTRAL, "best_of": (1,), "suffix": ("",)}
NEUTRAL_CHAT = {
    **NEUTRAL,
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none",),
    "store": (False,),
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A client's request to a model, with checked fields: to continue prompts, or to answer a chat."""

    model: str
    """Name of the model, which may be unknown to the server."""
    prompts: list[str | list[int]] = field(default_factory=list)
    """Prompts to continue, as texts or token ids; empty for a chat."""
    messages: list[dict[str, str]] = field(default_factory=list)
    """Messages of a chat, each with role and content; empty for prompts."""
    max_tokens: int | None = None
    """Largest number of tokens of an answer; None: as many as the server and the context allow."""
    n: int = 1
    """Number of answers to each prompt."""
    temperature: float = 0.0
    """0: greedy decoding, as in the steps predict and chat."""
    top_k: int = 0
    """Number of most likely tokens to draw from; 0: all tokens."""
    top_p: float = 1.0
    """Tokens are drawn from the most likely ones whose probabilities add up to this."""
    repetition_penalty: float = 1.0
    """Makes tokens of the prompt and of the answer so far less likely; 1: doesn't."""
    seed: int | None = None
    """Seed of drawn tokens; None: another seed for each request."""
    stop: list[str] = field(default_factory=list)
    """Texts that end an answer."""
    logprobs: int | None = None
    """Number of alternatives, the most likely tokens, to report with the log-probability of each token.

    None: no log-probabilities.
    """
    echo: bool = False
    """Whether texts and log-probabilities begin with the prompt."""
    stream: bool = False
    """Whether answers are sent as events while they grow."""
    include_usage: bool = False
    """Whether a stream ends with the numbers of tokens."""
    return_tokens_as_token_ids: bool = False
    """Whether a token in the log-probabilities is written as token_id:N."""

    @property
    def is_chat(self) -> bool:
        """Whether the request has messages."""
        return bool(self.messages)


def common_readers(limits: ServeConfig) -> dict[str, Reader]:
    """Return field -> its reader, for the fields that completions and chat completions share."""
    return {
        "model": fields.text,
        "max_tokens": fields.integer(0, limits.max_new_tokens),
        "n": fields.integer(1, limits.max_answers),
        "temperature": fields.temperature,
        "top_p": fields.number(1e-6, 1),
        "top_k": fields.integer(-1, 10**6),
        "repetition_penalty": fields.number(0.01, 100),
        "repeat_penalty": fields.number(0.01, 100),  # llama.cpp's name of it
        "seed": fields.integer(-LARGEST_SEED, LARGEST_SEED),
        "stop": fields.stop_texts,
        "stream": fields.flag,
        "stream_options": fields.stream_options,
        "user": _user,
    }


def completion_request(body: bytes, limits: ServeConfig) -> Request:
    """Return the body of a completion request as a `Request`.

    Args:
        body: The JSON object as bytes.
        limits: The serve section, with the limits on requests.

    Raises:
        Refusal: It is malformed, a field is missing, unknown or out of its range, or two fields contradict.
    """
    readers = common_readers(limits) | {
        "prompt": fields.prompts,
        "logprobs": fields.integer(0, fields.MOST_TOP_LOGPROBS),
        "echo": fields.flag,
        "return_tokens_as_token_ids": fields.flag,
    }
    values = fields.read_fields(fields.json_object(body), readers, NEUTRAL_COMPLETION)
    _require(values, "model", "prompt")
    values = {"max_tokens": MAX_TOKENS} | values
    values["prompts"] = values.pop("prompt")
    if len(values["prompts"]) * values.get("n", 1) > limits.max_answers:
        raise Refusal(
            400, f"prompt: more than {limits.max_answers:,} answers (prompts times n) in a request", "prompt"
        )
    if values["max_tokens"] == 0 and not values.get("echo"):
        raise Refusal(400, "max_tokens: 0, without echo, asks for nothing", "max_tokens")
    return _request(values)


def chat_request(body: bytes, limits: ServeConfig) -> Request:
    """Return the body of a chat completion request as a `Request`.

    Args:
        body: The JSON object as bytes.
        limits: The serve section, with the limits on requests.

    Raises:
        Refusal: It is malformed, a field is missing, unknown or out of its range, or two fields contradict.
    """
    readers = common_readers(limits) | {
        "messages": fields.messages,
        "max_tokens": fields.integer(1, limits.max_new_tokens),
        "max_completion_tokens": fields.integer(1, limits.max_new_tokens),
        "logprobs": fields.flag,
        "top_logprobs": fields.integer(0, fields.MOST_TOP_LOGPROBS),
    }
    values = fields.read_fields(fields.json_object(body), readers, NEUTRAL_CHAT)
    _require(values, "model", "messages")
    if "max_completion_tokens" in values:
        if "max_tokens" in values:
            raise Refusal(400, "max_tokens: there is max_completion_tokens, too (give one)", "max_tokens")
        values["max_tokens"] = values.pop("max_completion_tokens")
    wanted, top = values.pop("logprobs", False), values.pop("top_logprobs", None)
    if top is not None and not wanted:
        raise Refusal(400, "top_logprobs: needs logprobs=true", "top_logprobs")
    return _request({**values, "logprobs": (top or 0) if wanted else None})


def _request(values: dict[str, Any]) -> Request:
    """Return a request of fields that were read, after checking those that concern each other."""
    values = {name: value for name, value in values.items() if name != "user"}
    if "stream_options" in values:
        if not values.get("stream"):
            raise Refusal(400, "stream_options: needs stream=true", "stream_options")
        values["include_usage"] = values.pop("stream_options")
    penalty = values.pop("repeat_penalty", None)
    if penalty is not None and penalty != values.setdefault("repetition_penalty", penalty):
        raise Refusal(400, "repeat_penalty: another one than repetition_penalty (give one)", "repeat_penalty")
    values["top_k"] = max(values.get("top_k", 0), 0)
    request = Request(**values)
    if request.stream and request.logprobs is not None:
        raise Refusal(400, "logprobs: not in a stream (they are computed at its end)", "logprobs")
    if request.return_tokens_as_token_ids and request.logprobs is None:
        raise Refusal(400, "return_tokens_as_token_ids: needs logprobs", "return_tokens_as_token_ids")
    for name in ("top_p", "top_k"):
        if request.temperature == 0 and getattr(request, name) != getattr(Request, name):
            raise Refusal(
                400,
                f"{name}: has no effect at temperature 0, the default (leave it out, or raise temperature)",
                name,
            )
    return request


def _require(values: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in values:
            raise Refusal(400, f"{name}: missing", name)


def _user(value: Any, name: str) -> str:
    """Read the client's label of its user, which no answer depends on."""
    if len(fields.text(value, name)) > LONGEST_USER:
        raise Refusal(400, f"{name}: more than {LONGEST_USER} characters", name)
    return str(value)
