"""Generated answers."""

import string
from collections.abc import Iterator, Sequence

from workbench.config.benchmark import BenchmarkConfig
from workbench.errors import ConfigError
from workbench.evaluation.answers import extract
from workbench.evaluation.decoding import Decoder
from workbench.evaluation.items import Item, fit
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.transformers_lm import TransformersLM


class Generation:
    """Asks a causal model for text; an answer is what the benchmark says is to be extracted from it."""

    def __init__(self, lm: TransformersLM, config: BenchmarkConfig, seed: int, chat: bool = False) -> None:
        """Take the model, a benchmark whose protocol is resolved, and the seed of sampled answers."""
        self.lm = lm
        self.config = config
        self.seed = seed
        self.chat_tokenizer = lm.tokenizer if chat else None
        self.decoder = Decoder(lm, config.generation, as_harness=config.protocol == "lm-eval")

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """The examples as this model is asked them.

        Raises:
            ConfigError: answers may be as long as the model's context.
        """
        new = self.config.generation.max_new_tokens
        longest = self.lm.max_length - new
        if longest < 1:
            raise ConfigError(
                f"generation.max_new_tokens: {new} leave no room for a prompt in {self.lm.max_length} tokens"
            )
        return fit(examples, self._lengths, longest, self.chat_tokenizer)

    def _lengths(self, items: Sequence[Item]) -> list[int]:
        return [len(prompt) for prompt in self.lm.encode([item.contexts[0] for item in items])]

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each item, as soon as it is known."""
        prompts = self.lm.encode([item.contexts[0] for item in items])
        seeds = [f"{self.seed}/{item.example.id}" for item in items]
        for index, text in self.decoder.stream(prompts, seeds):
            letters = _letters(items[index].example)
            yield index, Answer(generation=text, extracted=extract(text, self.config.generation, letters))


def _letters(example: Example) -> str:
    """The capital letters among the choices; all there are where the choices have none."""
    found = [choice for choice in example.choices if choice in string.ascii_uppercase and len(choice) == 1]
    return "".join(found) or string.ascii_uppercase
