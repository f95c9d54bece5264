"""Answers items with generated text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from workbench.config.benchmark import BenchmarkConfig, GenerationConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError
from workbench.evaluation.benchmarks.targets import letters_of
from workbench.evaluation.endpoint.endpoint_decoder import EndpointDecoder
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.extraction.extract import extract
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.prompt_encoder import PromptEncoder
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item, chat_format, fit
from workbench.evaluation.tasks.thinking import Prompt, ThinkingDecoder, most_new_tokens, texts
from workbench.evaluation.tasks.tokenized_rows import EncodedExample, encoded_item


class Generation:
    """Generates a text for each item; the answer is extracted from it when the item is scored."""

    def __init__(self, lm: PromptEncoder, config: BenchmarkConfig, evaluate: EvaluateConfig) -> None:
        """Create an answerer for a benchmark, with the settings of its protocol filled in.

        Args:
            lm: model and tokenizer; a tokenizer alone makes items and answers none.
            config: configuration of the benchmark.
            evaluate: seed of sampled answers, chat template, and what becomes of items that are too long.
        """
        self.lm = lm
        self.config = config
        self.evaluate = evaluate
        self.chat = chat_format(lm.tokenizer, config, evaluate)

    @cached_property
    def decoder(self) -> Decoder | EndpointDecoder:
        """Decoder of the model, with the benchmark's limits; created at the first use."""
        return decoder_for(self.lm, self.config.generation, as_harness=self.config.protocol == "lm-eval")

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """Turn examples into items whose prompts fit the model; few-shot examples are dropped if need be.

        Raises:
            ConfigError: `max_new_tokens` and the thinking budget leave no room for a prompt in the context.
            DataError: A prompt can't fit, and `too_long` is `refuse`.
        """
        limits = self.config.generation
        num_new = most_new_tokens(self.lm.tokenizer, limits)
        max_prompt_length = self.lm.max_length - num_new
        if max_prompt_length < 1:
            budget = "" if limits.thinking_budget is None else " with those of evaluate.thinking_budget"
            raise ConfigError(
                f"generation.max_new_tokens: {num_new} tokens{budget} leave no room for a prompt "
                f"(the model's context has {self.lm.max_length} tokens)"
            )
        if all(isinstance(example, EncodedExample) for example in examples):
            return [encoded_item(example) for example in examples]
        return fit(examples, self._lengths, max_prompt_length, self.chat, self.evaluate.too_long)

    def _lengths(self, items: Sequence[Item]) -> list[int]:
        return [len(prompt) for prompt in self._prompts(items)]

    def _prompts(self, items: Sequence[Item]) -> list[list[int]]:
        """Return the token ids of each item's prompt; those of an EncodedExample are its `input_ids`."""
        encoded = [list(item.example.input_ids) for item in items if isinstance(item.example, EncodedExample)]
        return encoded or self.lm.encode([item.contexts[0] for item in items])

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Yield index and answer of each item, as soon as the answer is known; nothing is extracted yet."""
        prompts = self._prompts(items)
        seeds = [item.seed(self.evaluate.fewshot_seed) for item in items]
        budget = self.config.generation.thinking_budget
        if budget is None:
            stream = texts(self.decoder, prompts, seeds)
        else:
            pairs = zip(items, prompts, strict=True)
            thinking = [Prompt(item.contexts[0], tokens) for item, tokens in pairs]
            stream = ThinkingDecoder(self.decoder, budget).texts(thinking, seeds)
        for index, (text, finish_reason, thought_cut) in stream:
            yield index, Answer(generation=text, finish_reason=finish_reason, thought_cut=thought_cut)


def decoder_for(lm: PromptEncoder, limits: GenerationConfig, as_harness: bool) -> Decoder | EndpointDecoder:
    """Return the decoder of a model: EndpointDecoder for a model behind an endpoint, else Decoder."""
    if isinstance(lm, EndpointLM):
        return EndpointDecoder(lm, limits, as_harness)
    assert isinstance(lm, TransformersLM)
    return Decoder(lm, limits, as_harness)


def extracted(answer: Answer, example: Example, config: BenchmarkConfig) -> Answer:
    """Return a copy of an answer with `extracted`: what its generated text states, or None if it states none.

    An answer without a generated text is returned unchanged.

    Raises:
        ConfigError: Matching `generation.pattern` takes too long.
    """
    if config.output_type != OutputType.generation or answer.generation is None:
        return answer
    several = any(len(reference) > 1 for reference in example.reference_texts)
    letters, as_harness = letters_of(example.choices), config.protocol == "lm-eval"
    question = example.questions[0]
    extracted_text = extract(answer.generation, config.generation, letters, several, as_harness, question)
    return replace(answer, extracted=extracted_text)
