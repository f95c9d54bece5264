"""A model behind an endpoint that is asked by chats alone: it answers with texts, and has no tokens here."""

from collections.abc import Iterator, Sequence
from typing import Any

from workbench.config.benchmark import GenerationConfig
from workbench.evaluation.endpoint.at_once import at_once
from workbench.evaluation.endpoint.endpoint_decoder import sampling_fields
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.evaluation.endpoint.replies import finish_reason_of, message_of
from workbench.evaluation.inference.generated_text import GeneratedText

Messages = list[dict[str, Any]]


class ChatEndpoint:
    """A model that is asked by the path chat/completions; the endpoint renders the chats."""

    tokenizer = None
    max_length = 2**31 - 1
    """Tokens of its context, which isn't known; the endpoint refuses longer chats."""
    computed_tokens = 0
    """Number of tokens that the model has computed on this machine."""

    def __init__(self, model: EndpointModel) -> None:
        """Wrap an endpoint; nothing is asked yet."""
        self.model = model

    def texts(
        self, chats: Sequence[Messages], seeds: Sequence[str], limits: GenerationConfig
    ) -> Iterator[tuple[int, GeneratedText]]:
        """Yield index and answer of each chat, in the order of the replies.

        Args:
            chats: The messages of each chat.
            seeds: Seed of each answer's sampling; not used where the temperature is 0.
            limits: Sampling and end of an answer.

        Raises:
            EndpointError: The endpoint fails.
        """
        pairs = zip(chats, seeds, strict=True)
        tasks = [lambda chat=chat, seed=seed: self._answer(chat, seed, limits) for chat, seed in pairs]
        yield from at_once(tasks, self.model.settings.concurrency)

    def _answer(self, chat: Messages, seed: str, limits: GenerationConfig) -> GeneratedText:
        reply = self.model.chat(chat, **sampling_fields(limits, seed))
        text = ended = message_of(reply, self.model.client.shown)
        for stop in limits.stop:
            ended = ended.split(stop)[0]
        return GeneratedText(ended, finish_reason_of(reply) if ended == text else "stop")
