"""Asks a model the items of a benchmark as this project renders them, and judges the answers."""

from collections.abc import Iterator
from functools import partial

from transformers import PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation import answer_loop
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.benchmarks.option_orders import combined
from workbench.evaluation.diagnostics import (
    letter_fields,
    warn_of_closed_texts,
    warn_of_letters,
    warn_of_same_tokens,
    warn_of_shots,
)
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.metrics import aggregate
from workbench.evaluation.model_checks import named
from workbench.evaluation.prepared_benchmark import Asked, Outcome, PreparedBenchmark
from workbench.evaluation.records import Answer
from workbench.evaluation.tasks.answerer import Answerer
from workbench.evaluation.tasks.generation import extracted
from workbench.evaluation.tasks.requests import Item, item, long_ones
from workbench.evaluation.tasks.select_answerer import Model, answerer_for

_IN_CHAT = (OutputType.multiple_choice, OutputType.generation)
"""Benchmarks whose prompts are wrapped in the chat template."""


class ItemInterviewer:
    """The interviewer of all benchmarks whose items this project renders."""

    rule = ""

    def main_metric(self, benchmark: PreparedBenchmark) -> str:
        """The first metric of the benchmark's configuration."""
        return benchmark.config.metrics[0]

    def generates(self, benchmark: PreparedBenchmark) -> bool:
        """Whether the answers are generated texts."""
        return benchmark.config.output_type is OutputType.generation

    def check_chat(self, benchmark: PreparedBenchmark, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write the first prompt by the chat template, where prompts of this kind are.

        Raises:
            DataError: the template refuses the turns, such as a system message.
        """
        if benchmark.config.output_type in _IN_CHAT:
            with named(benchmark.name):
                item(benchmark.examples[0], 0, tokenizer)

    def check(self, benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig) -> None:
        """Encode the items that might be too long.

        Raises:
            ConfigError: a key that doesn't fit the model.
            DataError: a question alone is too long for the model.
        """
        with named(benchmark.name):
            longest = lm.max_length - benchmark.config.generation.max_new_tokens
            answerer_for(lm, benchmark.config, config).items(long_ones(benchmark.examples, longest))

    def judged(
        self,
        benchmark: PreparedBenchmark,
        lm: Model,
        config: EvaluateConfig,
        kept: AnswerCache,
        model_name: str,
    ) -> Outcome:
        """The answers, asked and judged as the benchmark's configuration says.

        Raises:
            WorkbenchError: the model can't answer.
        """
        answerer = answerer_for(lm, benchmark.config, config)
        asked, count = _ask(benchmark, answerer, config, kept, model_name)
        items = [question.items[0] for question in asked]
        answers = [
            extracted(combined(question.answers), question.items[0].example, benchmark.config)
            for question in asked
        ]
        warn_of_shots(benchmark, items, lm.max_length)
        warn_of_same_tokens(benchmark, answerer)
        if benchmark.config.protocol == "lm-eval" and isinstance(lm, TransformersLM):
            warn_of_closed_texts(benchmark.name, lm)
        more = letter_fields(benchmark, asked)
        return Outcome(
            predictions=aggregate.predictions(benchmark, items, answers),
            scores=aggregate.scores(benchmark, items, answers, config, model_name, **more),
            num_asked=count,
            asked=asked,
        )


def _ask(
    benchmark: PreparedBenchmark,
    answerer: Answerer,
    config: EvaluateConfig,
    kept: AnswerCache,
    model_name: str,
) -> tuple[list[Asked], int]:
    """All questions with their answers, and how many items this process had to ask."""
    questions = [[example, *example.rotations] for example in benchmark.examples]
    flat = [example for question in questions for example in question]
    items: list[Item] = []

    def keyed() -> Iterator[list[tuple[str, Item]]]:
        for chunk in answer_loop.chunks(flat, lambda example: example.subset):
            fitted = answerer.items(chunk)
            if not items:
                warn_of_letters(benchmark, answerer, fitted[0])
            items.extend(fitted)
            yield [(_key(benchmark.config, config, item), item) for item in fitted]

    title = f"{model_name} · {benchmark.name}"
    fits = partial(_is_answer, benchmark.config.output_type)
    known, count = answer_loop.ask(keyed(), answerer.answers, kept, title, len(flat), fits)
    found = iter(items)
    asked = []
    for question in questions:
        same = [next(found) for _ in question]
        asked.append(Asked(same, [known[_key(benchmark.config, config, item)] for item in same]))
    return asked, count


def _is_answer(output_type: OutputType, item: Item, answer: Answer) -> bool:
    """Whether a kept answer can be one to an item: a text, or a log-likelihood for each choice."""
    if output_type is OutputType.generation:
        return answer.generation is not None
    if output_type is OutputType.multiple_choice:
        return len(answer.loglikelihoods) == len(item.example.continuations)
    return bool(answer.loglikelihoods)


def _key(benchmark: BenchmarkConfig, config: EvaluateConfig, item: Item) -> str:
    """The prompt's hash, with what else the answer depends on.

    That is the item's id where the answer is sampled, and with `invariant`, to the bit, where the beginning
    ends that is computed apart.
    """
    sampled = benchmark.output_type == OutputType.generation and benchmark.generation.temperature > 0
    key = f"{item.hash}/{item.example.id}" if sampled else item.hash
    return f"{key}/{item.num_shared}" if config.invariant else key
