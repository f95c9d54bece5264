"""Finds faults that an endpoint's own answers show: beginning token, chat template, sampling defaults."""

from dataclasses import replace

from workbench.config.data import DataConfig, Template
from workbench.config.model import Task
from workbench.data.inference_prompts import prompts
from workbench.data.readers.row import Row
from workbench.errors import EndpointError
from workbench.evaluation.endpoint.endpoint_lm import PROBES, EndpointLM
from workbench.evaluation.endpoint.replies import message_of, prompt_tokens, text_of

NUM_TOKENS = 24
"""Length of the texts that are compared."""


def behaviours(lm: EndpointLM, data: DataConfig) -> list[str]:
    """Return a line for each fault that an endpoint's answers show without the model's weights.

    Args:
        lm: The endpoint, with the tokenizer of the model that was scored.
        data: The data section, which says how chats are rendered.

    Raises:
        EndpointError: The endpoint can't be reached.
    """
    return [*beginning_token(lm), *chat_template(lm, data), *sampling_defaults(lm)]


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


def sampling_defaults(lm: EndpointLM) -> list[str]:
    """Return [a fault] if the endpoint's answers aren't greedy when a request has no temperature, else [].

    Raises:
        EndpointError: The endpoint fails, or its replies lack a text.
    """
    for text in PROBES:  # which also servers read that take no token ids
        greedy = text_of(lm.endpoint.complete(text, max_tokens=NUM_TOKENS), lm.endpoint.client.shown)
        fields = {"model": lm.endpoint.name, "prompt": text, "max_tokens": NUM_TOKENS}
        for _ in range(2):
            if text_of(lm.endpoint.client.post("completions", fields), lm.endpoint.client.shown) != greedy:
                return [
                    "sampling defaults: without temperature in the request the endpoint draws tokens, or "
                    "applies penalties; the scored texts are greedy (send temperature=0)"
                ]
    return []
