"""Continues prompts by a model behind an endpoint."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from workbench.config.benchmark import GenerationConfig
from workbench.evaluation.endpoint.at_once import at_once
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.endpoint.endpoint_model import NEUTRAL
from workbench.evaluation.endpoint.replies import finish_reason_of, text_of
from workbench.evaluation.inference.generated_text import GeneratedText
from workbench.evaluation.inference.stop_rules import Endings

MOST_STOP_TEXTS = 4
"""Stop texts that OpenAI's interface takes; all others are searched here."""


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
        for index, generated in self.texts(prompts, seeds):
            yield index, generated.text

    def texts(
        self, prompts: Sequence[list[int]], seeds: Sequence[str]
    ) -> Iterator[tuple[int, GeneratedText]]:
        """Yield index and answer of each prompt, with the reason of its end, in the order of the replies.

        Args:
            prompts: Token ids.
            seeds: Seed of each answer's sampling; not used where the temperature is 0.

        Raises:
            EndpointError: The endpoint fails.
        """
        pairs = zip(prompts, seeds, strict=True)
        tasks = [lambda prompt=prompt, seed=seed: self._answer(prompt, seed) for prompt, seed in pairs]
        yield from at_once(tasks, self.lm.endpoint.settings.concurrency)

    def _answer(self, prompt: list[int], seed: str) -> GeneratedText:
        reply = self.lm.continue_prompt(prompt, **sampling_fields(self.limits, seed, self.lm.vocabulary))
        text = text_of(reply, self.lm.endpoint.client.shown)
        ended = self.endings.before_stop(text)
        return GeneratedText(ended, finish_reason_of(reply) if ended == text else "stop")


def sampling_fields(limits: GenerationConfig, seed: str, vocabulary: int | None = None) -> dict[str, Any]:
    """Return the fields of a request that say how its answer is drawn, and where it ends.

    Sampling that isn't part of OpenAI's interface is sent also where it changes nothing, because an endpoint
    has defaults of its own; it is then in `neutral`, an argument of `EndpointModel.complete` and `chat`.

    Args:
        limits: Sampling and end of an answer.
        seed: Seed as a text; not used where the temperature is 0.
        vocabulary: Number of tokens, which is sent as `top_k` to draw from all of them (-1, and 0, mean all
            at some servers and are refused by others); None: it isn't known, and no such `top_k` is sent.
    """
    fields: dict[str, Any] = {"max_tokens": limits.max_new_tokens, "temperature": limits.temperature}
    if limits.temperature:
        number = hashlib.sha256(seed.encode("utf-8")).digest()[:4]
        fields |= {"top_p": limits.top_p, "seed": int.from_bytes(number, "big") // 2}
    if limits.stop:
        fields["stop"] = list(limits.stop[:MOST_STOP_TEXTS])
    neutral: dict[str, Any] = dict.fromkeys(NEUTRAL, limits.repetition_penalty)
    if limits.repetition_penalty != 1:
        fields["repetition_penalty"] = neutral.pop("repetition_penalty")
    if limits.temperature and limits.top_k:
        fields["top_k"] = limits.top_k
    elif limits.temperature and vocabulary:
        neutral["top_k"] = vocabulary
    return fields | {"neutral": neutral}
