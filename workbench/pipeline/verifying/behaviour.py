"""Finds faults that an endpoint's own answers show: beginning token, chat template, sampling."""

from dataclasses import replace

from workbench.config.data import DataConfig, Template
from workbench.config.model import Task
from workbench.data.inference_prompts import prompts
from workbench.data.readers.row import Row
from workbench.errors import EndpointError
from workbench.evaluation.endpoint.endpoint_lm import PROBES, EndpointLM
from workbench.evaluation.endpoint.endpoint_model import NEUTRAL
from workbench.evaluation.endpoint.replies import logprobs_of, message_of, prompt_tokens, text_of

NUM_TOKENS = 24
"""Length of the texts that are compared."""
NEAREST_NATS = 0.1
"""Nats by which a greedy token may be less likely than the most likely one, by rounding."""


def behaviours(lm: EndpointLM, data: DataConfig) -> list[str]:
    """Return a line for each fault that an endpoint's answers show without the model's weights.

    Args:
        lm: The endpoint, with the tokenizer of the model that was scored.
        data: The data section, which says how chats are rendered.

    Raises:
        EndpointError: The endpoint can't be reached.
    """
    applied = sampling(lm)
    # Answers to a chat differ by sampling alone, and then tell nothing about its template.
    return [*beginning_token(lm), *(applied or chat_template(lm, data))]


def beginning_token(lm: EndpointLM) -> list[str]:
    """Return [a fault] if the endpoint makes more or fewer tokens of a text than the tokenizer, else []."""
    for text, tokens in zip(PROBES, lm.encode(PROBES), strict=True):
        count = prompt_tokens(lm.endpoint.complete(text, max_tokens=1))
        if count is not None and count != len(tokens):
            return [
                f"beginning token or tokenizer: the endpoint makes {count} tokens of {text!r}, the scored "
                f"model's tokenizer {len(tokens)}"
            ]
    return []


def chat_template(lm: EndpointLM, data: DataConfig) -> list[str]:
    """Return [a fault] if the endpoint renders a chat otherwise than the model's template, else [].

    The chat is also sent as a prompt, rendered and encoded here: number of tokens and answer must be the
    same. Endpoints without chats, and models without a template, have no fault.

    Raises:
        EndpointError: The endpoint fails, its replies lack a text, or it makes other tokens of a text.
        DataError: The model's chat template refuses the chat.
    """
    if data.template == Template["auto"].name and not lm.tokenizer.chat_template:
        return []
    messages = [{"role": "user", "content": "1 + 1 = ?"}]
    plain = replace(data, path="", sources={}, limit=None, unfold="")
    (prompt,) = prompts([Row({"messages": messages}, "chat")], lm.tokenizer, plain, Task.causal_lm)
    try:
        chat = lm.endpoint.chat(messages, max_tokens=NUM_TOKENS)
    except EndpointError:
        return []  # it has no chats
    answer = message_of(chat, lm.endpoint.client.shown)
    count = prompt_tokens(chat)
    if count is not None and count != len(prompt.input_ids):
        return [
            f"chat template: a chat has {count} tokens there, {len(prompt.input_ids)} with the model's own"
        ]
    continued = text_of(lm.continue_prompt(prompt.input_ids, max_tokens=NUM_TOKENS), lm.endpoint.client.shown)
    if answer.strip() != continued.strip():
        return [
            "chat template: a chat is answered otherwise than the text that the model's own template makes"
        ]
    return []


def sampling(lm: EndpointLM) -> list[str]:
    """Return [a fault] if the endpoint doesn't answer greedily although requests ask for it, else [].

    Each token that it chooses must be its most likely one. Of an endpoint that tells no log-probabilities of
    generated tokens, two answers to the same text must be the same.

    Raises:
        EndpointError: The endpoint fails, or its replies lack a text.
    """
    tells = True
    for text in PROBES:  # which also servers read that take no token ids
        texts = [_continued(lm, text, seed=seed) for seed in (0, 1)]
        try:
            worst = _largest_gap(lm, text) if tells else None
        except EndpointError:
            tells, worst = False, None
        if worst is not None and worst > NEAREST_NATS:
            return [
                "sampling: temperature=0 and no penalty are sent, and the endpoint chooses a token that is "
                f"{worst:.2g} nats less likely than its most likely one: all the same it draws tokens or "
                "applies penalties"
            ]
        if worst is None and len(set(texts)) > 1:
            return [
                "sampling: temperature=0 is sent, and two answers to the same text differ: all the same the "
                "endpoint draws tokens, or it computes otherwise each time"
            ]
    return []


def sampling_defaults(lm: EndpointLM) -> list[str]:
    """Return [a note] if a request without sampling fields isn't answered greedily, else [].

    Scores don't depend on these defaults, because each request here sends all sampling fields. The note tells
    users of other clients which fields to send.

    Raises:
        EndpointError: The endpoint fails, or its replies lack a text.
    """
    for text in PROBES:
        greedy = _continued(lm, text)
        if any(_by_defaults(lm, text) != greedy for _ in range(2)):
            is_enough = _by_defaults(lm, text, temperature=0) == greedy
            penalties = "".join(f", {name}={value}" for name, value in NEUTRAL.items())
            return [
                "sampling defaults: a request without temperature is not answered greedily there, as the "
                f"scored texts are (other clients have to send temperature=0{'' if is_enough else penalties})"
            ]
    return []


def _continued(lm: EndpointLM, text: str, seed: int = 0) -> str:
    """Return the greedy text after a text."""
    reply = lm.endpoint.complete(text, max_tokens=NUM_TOKENS, seed=seed)
    return text_of(reply, lm.endpoint.client.shown)


def _by_defaults(lm: EndpointLM, text: str, **fields: int) -> str:
    """Return what the endpoint writes after a text in a request that has no sampling but `fields`."""
    values = {"model": lm.endpoint.name, "prompt": text, "max_tokens": NUM_TOKENS, **fields}
    return text_of(lm.endpoint.client.post("completions", values), lm.endpoint.client.shown)


def _largest_gap(lm: EndpointLM, text: str) -> float | None:
    """Return by how many nats a greedy token is less likely than the most likely one, at most.

    None: the endpoint doesn't tell the most likely one.

    Raises:
        EndpointError: It tells no log-probabilities.
    """
    reply = lm.endpoint.complete(text, retries=0, max_tokens=NUM_TOKENS, logprobs=1)
    told = logprobs_of(reply, None, lm.endpoint.client.shown)
    pairs = zip(told.values, told.best, strict=True)
    return max(
        (best - value for value, best in pairs if value is not None and best is not None), default=None
    )
