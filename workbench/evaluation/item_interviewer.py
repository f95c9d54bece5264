"""Asks a model the items of a benchmark that this project renders, and scores the answers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig, TooLong, takes_chat_template
from workbench.evaluation import answer_loop
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.benchmarks.option_orders import combined
from workbench.evaluation.diagnostics import (
    letter_fields,
    warn_of_begin_tokens,
    warn_of_closed_texts,
    warn_of_letters,
    warn_of_open_thoughts,
    warn_of_same_tokens,
    warn_of_shots,
    ways_out_of_thoughts,
)
from workbench.evaluation.endpoint.kept_answers import endpoint_check, telling
from workbench.evaluation.extraction.thoughts import after_thoughts, opens_thought
from workbench.evaluation.inference.language_model import LanguageModel
from workbench.evaluation.metrics import aggregate, item_predictions
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.metrics.text_counts import open_ends, text_counts
from workbench.evaluation.model_checks import naming_benchmark
from workbench.evaluation.prepared_benchmark import Asked, Outcome, PreparedBenchmark
from workbench.evaluation.records import Answer
from workbench.evaluation.tasks.answerer import Answerer
from workbench.evaluation.tasks.generation import extracted
from workbench.evaluation.tasks.requests import ChatFormat, Item, item, possibly_too_long
from workbench.evaluation.tasks.select_answerer import Model, answerer_for
from workbench.evaluation.tasks.thinking import most_new_tokens
from workbench.evaluation.tasks.tokenized_rows import EncodedExample
from workbench.evaluation.too_long_items import warn_of_none_left

_CHAT_OUTPUT_TYPES = (OutputType.multiple_choice, OutputType.generation)
"""Output types whose prompts use the chat template."""


class ItemInterviewer:
    """Asks and scores the benchmarks whose items this project renders: all but tasks of the harness."""

    rule = ""

    def main_metric(self, benchmark: PreparedBenchmark) -> str:
        """Return the first metric of the benchmark's configuration."""
        return benchmark.config.metrics[0]

    def generates(self, benchmark: PreparedBenchmark) -> bool:
        """Return whether the answers are generated texts."""
        return benchmark.config.output_type is OutputType.generation

    def check_chat(self, benchmark: PreparedBenchmark, chat: ChatFormat) -> None:
        """Render the first prompt with the chat template, if the benchmark uses one.

        Raises:
            DataError: The template refuses the conversation, such as its system message.
        """
        if benchmark.config.output_type in _CHAT_OUTPUT_TYPES:
            with naming_benchmark(benchmark.name):
                item(benchmark.examples[0], 0, chat)

    def check(self, benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig) -> None:
        """Check that every question, without few-shot examples, fits, if `too_long` refuses longer ones.

        Only questions with more bytes than the model has tokens are encoded: all others fit.

        Raises:
            ConfigError: A setting doesn't fit the model.
            DataError: A question without few-shot examples is too long for the model.
        """
        with naming_benchmark(benchmark.name):
            if config.too_long is not TooLong.refuse:
                return
            assert lm.tokenizer is not None
            longest = lm.max_length - most_new_tokens(lm.tokenizer, benchmark.config.generation)
            long_examples = possibly_too_long(benchmark.examples, longest)
            answerer_for(lm, benchmark.config, config).items(long_examples)

    def check_kept(
        self, benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, cache: AnswerCache
    ) -> bool:
        """See `Interviewer`."""
        if _is_sampled(benchmark.config) or not cache.answers:
            return False
        answerer = answerer_for(lm, benchmark.config, config)
        is_answer = partial(_is_answer, benchmark.config.output_type)
        check = endpoint_check(
            lm.model, answerer.answers, lambda item: f"item {item.example.id} of {benchmark.name}"
        )
        for chunk in answer_loop.chunks(benchmark.examples, lambda example: example.subset):
            keyed = [(_key(benchmark.config, config, item), item) for item in answerer.items(chunk)]
            kept = [(item, cache[key]) for key, item in keyed if key in cache and is_answer(item, cache[key])]
            if check is not None and telling(kept):
                check(kept)
                return True
        return False

    def evaluate(
        self,
        benchmark: PreparedBenchmark,
        lm: Model,
        config: EvaluateConfig,
        cache: AnswerCache,
        model_name: str,
    ) -> Outcome:
        """Ask a model the items that have no cached answer, and return predictions and scores of all.

        New answers are added to `cache`; warnings about prompts and answers are logged. Where all items are
        too long for the model and skipped, there are neither predictions nor scores.

        Raises:
            WorkbenchError: The model can't answer.
        """
        answerer = answerer_for(lm, benchmark.config, config)
        asked, num_asked = _ask(benchmark, answerer, config, cache, lm.model, model_name)
        if not asked:
            warn_of_none_left(benchmark.name, len(benchmark.examples), lm.max_length)
            return Outcome(predictions=[], scores=[], num_asked=0)
        items = [question.items[0] for question in asked]
        is_text = self.generates(benchmark)
        answers = [q.answers if is_text else [combined(q.answers)] for q in asked]
        scored = [
            [
                extracted(_after_thoughts(item, answer, benchmark.config), item.example, benchmark.config)
                for answer in item_answers
            ]
            for item, item_answers in zip(items, answers, strict=True)
        ]
        pairs = zip(items, answers, strict=True)
        written = [(item.contexts[0], answer) for item, given in pairs for answer in given]
        texts = text_counts(written)
        warn_of_shots(benchmark, items, lm.max_length)
        warn_of_same_tokens(benchmark, answerer)
        if not isinstance(items[0].example, EncodedExample):
            is_asked_in_chat = benchmark.config.output_type in _CHAT_OUTPUT_TYPES
            in_chat = is_asked_in_chat and takes_chat_template(benchmark.config, config)
            budget = benchmark.config.generation.thinking_budget
            ways = ways_out_of_thoughts(benchmark.config, isinstance(lm, LanguageModel), in_chat)
            warn_of_open_thoughts(benchmark.name, texts, open_ends(written), budget, ways)
            if in_chat and isinstance(lm, LanguageModel):
                warn_of_begin_tokens(benchmark.name, lm, items)
        if benchmark.config.protocol == "lm-eval" and isinstance(lm, LanguageModel):
            warn_of_closed_texts(benchmark.name, lm)
        score_fields = letter_fields(benchmark, asked, [first for first, *_ in scored]) | {
            "texts": texts,
            "num_truncated": sum(any(item.is_truncated for item in question.items) for question in asked),
            "num_skipped": len(benchmark.examples) - len(asked),
        }
        _score_ahead(benchmark, items, scored)
        return Outcome(
            predictions=item_predictions.predictions(benchmark, items, scored, answers),
            scores=aggregate.scores(benchmark, items, scored, config, model_name, **score_fields),
            num_asked=num_asked,
            asked=asked,
        )


def _score_ahead(
    benchmark: PreparedBenchmark, items: Sequence[Item], answers: Sequence[Sequence[Answer]]
) -> None:
    """Compute what the scores of a metric need side by side for all answers, if the metric can do that."""
    for metric in map(metric_named, benchmark.config.metrics):
        if metric.score_ahead is not None:
            pairs = [
                (item.example, answer)
                for item, item_answers in zip(items, answers, strict=True)
                for answer in item_answers
            ]
            metric.score_ahead([Judged(metric.judge(a, example), a, example) for example, a in pairs])


def _ask(
    benchmark: PreparedBenchmark,
    answerer: Answerer,
    config: EvaluateConfig,
    cache: AnswerCache,
    model: object,
    model_name: str,
) -> tuple[list[Asked], int]:
    """Ask the items without a cached answer; return all questions with their answers.

    Also return the number of items that this process asked. Questions that are too long for the model, in any
    order of their options, are left out.
    """
    num_samples = config.samples if _is_sampled(benchmark.config) else 1
    questions = [[example, *example.rotations] for example in benchmark.examples]
    examples = [example for question in questions for example in question]
    items: list[Item] = []

    def keyed_items() -> Iterator[list[tuple[str, Item]]]:
        for chunk in answer_loop.chunks(examples, lambda example: example.subset):
            fitted_items = answerer.items(chunk)
            if not items:
                warn_of_letters(benchmark, answerer, fitted_items[0])
            fitted_items = [
                replace(item, sample=sample) for item in fitted_items for sample in range(num_samples)
            ]
            items.extend(fitted_items)
            asked_items = (item for item in fitted_items if not item.is_skipped)
            yield [(_key(benchmark.config, config, item), item) for item in asked_items]

    title = f"{model_name} · {benchmark.name}"
    fits = partial(_is_answer, benchmark.config.output_type)
    is_drawn = _is_sampled(benchmark.config)
    check = endpoint_check(model, answerer.answers, lambda item: f"item {item.example.id}", is_drawn=is_drawn)
    answers, num_asked = answer_loop.ask(
        keyed_items(), answerer.answers, cache, title, len(examples) * num_samples, fits, check
    )
    remaining_items = iter(items)
    asked = []
    for question in questions:
        asked_items = [next(remaining_items) for _ in range(len(question) * num_samples)]
        if any(item.is_skipped for item in asked_items):
            continue
        keys = [_key(benchmark.config, config, item) for item in asked_items]
        asked.append(Asked(asked_items, [answers[key] for key in keys]))
    return asked, num_asked


def _after_thoughts(item: Item, answer: Answer, config: BenchmarkConfig) -> Answer:
    """Return a copy of an answer with the generated text that is scored: the part after the model's thought.

    Held-out rows have their thoughts in the targets, too, and lm-evaluation-harness scores the whole text.
    """
    if answer.generation is None or isinstance(item.example, EncodedExample) or config.protocol == "lm-eval":
        return answer
    return replace(answer, generation=after_thoughts(answer.generation, opens_thought(item.contexts[0])))


def _is_answer(output_type: OutputType, item: Item, answer: Answer) -> bool:
    """Return whether a cached answer has a text, a log-likelihood per choice, or (other types) any at all."""
    if output_type is OutputType.generation:
        return answer.generation is not None
    if output_type is OutputType.multiple_choice:
        return len(answer.loglikelihoods) == len(item.example.continuations)
    return bool(answer.loglikelihoods)


def _key(benchmark: BenchmarkConfig, config: EvaluateConfig, item: Item) -> str:
    """Return the cache key of an item's answer: the hash of its prompts, and up to two suffixes.

    A sampled answer also depends on the item's id and, from the second of several on, on its number: both get
    appended. With `invariant`, which promises the same bits, an answer also depends on the length of the
    prefix that is computed separately.
    """
    key = f"{item.hash}/{item.example.id}" if _is_sampled(benchmark) else item.hash
    key = f"{key}/{item.sample}" if item.sample else key
    return f"{key}/{item.num_shared}" if config.invariant else key


def _is_sampled(benchmark: BenchmarkConfig) -> bool:
    """Return whether the benchmark's answers are texts whose tokens are drawn."""
    return benchmark.output_type is OutputType.generation and benchmark.generation.temperature > 0
