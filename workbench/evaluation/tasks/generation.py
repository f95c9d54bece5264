"""Generated answers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.errors import ConfigError
from workbench.evaluation.benchmarks.targets import letters_of
from workbench.evaluation.extraction.extract import extract
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item, fit
from workbench.evaluation.tasks.tokenized_rows import EncodedExample, encoded_item


class Generation:
    """Asks a causal model for text; what of it is the answer is found when it is judged."""

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
        if all(isinstance(example, EncodedExample) for example in examples):
            return [encoded_item(example) for example in examples]
        return fit(examples, self._lengths, longest, self.chat_tokenizer)

    def _lengths(self, items: Sequence[Item]) -> list[int]:
        return [len(prompt) for prompt in self._prompts(items)]

    def _prompts(self, items: Sequence[Item]) -> list[list[int]]:
        """The tokens of each prompt: the item's own where it has them."""
        encoded = [list(i.example.input_ids) for i in items if isinstance(i.example, EncodedExample)]
        return encoded or self.lm.encode([item.contexts[0] for item in items])

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each item, as soon as it is known."""
        prompts = self._prompts(items)
        seeds = [f"{self.seed}/{item.example.id}" for item in items]
        for index, text in self.decoder.stream(prompts, seeds):
            yield index, Answer(generation=text)


def extracted(answer: Answer, example: Example, config: BenchmarkConfig) -> Answer:
    """The answer with what of its text is the answer, by the rules of this version, whoever kept the text."""
    if config.output_type != OutputType.generation or answer.generation is None:
        return answer
    several = any(len(reference) > 1 for reference in example.reference_texts)
    found = extract(answer.generation, config.generation, letters_of(example.choices), several)
    return replace(answer, extracted=found)
