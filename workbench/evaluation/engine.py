"""Scores a model on benchmarks: fits items to it, asks the uncached ones, scores and writes predictions."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.config.history import hashed
from workbench.distributed import rank_and_world_size
from workbench.evaluation import answer_loop
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.benchmarks.option_orders import combined
from workbench.evaluation.diagnostics import (
    AnsweredQuestion,
    letter_fields,
    warn_of_closed_texts,
    warn_of_letters,
    warn_of_same_tokens,
    warn_of_shots,
)
from workbench.evaluation.inference.causal_lm import TransformersLM, evaluation_mode
from workbench.evaluation.metrics import aggregate
from workbench.evaluation.model_checks import check, named
from workbench.evaluation.records import Answer, Prediction, PreparedBenchmark, Score, write_predictions
from workbench.evaluation.sharing_error import invariant_cost, verified
from workbench.evaluation.tasks.answerer import Answerer
from workbench.evaluation.tasks.generation import extracted
from workbench.evaluation.tasks.requests import Item
from workbench.evaluation.tasks.select_answerer import Model, answerer_for, in_role

ANSWERS_VERSION = 2
"""Raised when the encoding of prompts or the end of answers changes, so that no older answer is reused."""
log = logging.getLogger("workbench")


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model, with measured times and counts."""

    scores: list[Score]
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    """Benchmark -> seconds, items_per_second, num_asked, computed_tokens, ...; for run.json."""


Publish = Callable[[PreparedBenchmark, list[Score], dict[str, float]], None]
"""Called with a benchmark, its scores and its measured values, as soon as they are known."""


@dataclass(frozen=True)
class _BenchmarkResult:
    """Predictions and scores of a model on one benchmark."""

    predictions: list[Prediction]
    scores: list[Score]
    num_asked: int
    questions: list[AnsweredQuestion] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Mapping[str, PreparedBenchmark],
    config: EvaluateConfig,
    *,
    model_name: str,
    fingerprint: str = "",
    predictions: Callable[[str, str], Path] | None = None,
    cache: Path | None = None,
    renew: bool = False,
    note: str = "",
    publish: Publish | None = None,
    decoding: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Evaluation:
    """Score a model on benchmarks that `check_benchmarks` prepared; all models get the same items.

    The model's training modes and the global random state don't change. Processes started by torchrun share
    the items; each process returns all scores, and rank 0 writes the files.

    Args:
        model: causal language model, or a model with a classification head if the benchmarks need it.
        tokenizer: tokenizer of the model.
        benchmarks: name -> prepared benchmark.
        config: settings of the evaluation.
        model_name: base, adapter or merged; written to the scores.
        fingerprint: fingerprint of weights, adapter, quantization and dtype; part of the cache's key.
        predictions: returns the file of a model's predictions on a benchmark (RunDir.predictions), or None.
        cache: folder of cached answers; None, or an empty fingerprint, caches nothing.
        renew: ask all items again and replace their cached answers.
        note: remark written to the scores.
        publish: called after each benchmark, before the next one starts.
        decoding: context in which texts are generated, for example one that repacks weights for decoding.

    Raises:
        DataError: Answers differ when asked one by one (`evaluate.verify`); then no results of the benchmark
            are written.
    """
    evaluation = Evaluation([])
    rank, _ = rank_and_world_size()
    with evaluation_mode(model):
        lm = in_role(model, tokenizer, [benchmark.config for benchmark in benchmarks.values()], config)
        check(lm, benchmarks, config, model_name)
        for name, benchmark in benchmarks.items():
            start = time.perf_counter()
            folder = cache if config.cache and fingerprint else None
            answers = AnswerCache(folder, fingerprint, _rule(benchmark.config, config), rank, renew=renew)
            generates = benchmark.tasks or benchmark.config.output_type is OutputType.generation
            with named(name), decoding() if generates else nullcontext():
                result, measured = _measured(benchmark, lm, config, answers, model_name, start)
                if predictions is not None and rank == 0:
                    write_predictions(predictions(model_name, name), result.predictions)
            scores = [replace(score, note=note) for score in result.scores]
            if publish is not None:
                publish(benchmark, scores, measured)
            evaluation.scores.extend(scores)
            evaluation.measured[name] = measured
    return evaluation


def _measured(
    benchmark: PreparedBenchmark,
    lm: Model,
    config: EvaluateConfig,
    cache: AnswerCache,
    model_name: str,
    start: float,
) -> tuple[_BenchmarkResult, dict[str, float]]:
    """Score a benchmark and return its result with the time since `start` and other measured values."""
    tokens_before = lm.computed_tokens
    score = _score_tasks if benchmark.tasks else _score_items
    result = score(benchmark, lm, config, cache, model_name)
    seconds = time.perf_counter() - start
    seconds_per_item = seconds / result.num_asked if result.num_asked else 0.0
    return result, {
        "seconds": seconds,
        "items_per_second": result.num_asked / seconds,
        "num_asked": result.num_asked,
        "computed_tokens": lm.computed_tokens - tokens_before,
        **result.measured,
        **verified(lm.model, lm.tokenizer, benchmark.config, config, result.questions),
        **invariant_cost(lm.model, lm.tokenizer, benchmark, config, result.questions, seconds_per_item),
    }


def _score_items(
    benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, cache: AnswerCache, model_name: str
) -> _BenchmarkResult:
    """Ask and score the items of a benchmark by its configuration."""
    answerer = answerer_for(lm, benchmark.config, config)
    questions, num_asked = _ask(benchmark, answerer, config, cache, model_name)
    items = [question.items[0] for question in questions]
    answers = [
        extracted(combined(question.answers), question.items[0].example, benchmark.config)
        for question in questions
    ]
    warn_of_shots(benchmark, items, lm.max_length)
    warn_of_same_tokens(benchmark, answerer)
    if benchmark.config.protocol == "lm-eval" and isinstance(lm, TransformersLM):
        warn_of_closed_texts(benchmark.name, lm)
    fields = letter_fields(benchmark, questions)
    return _BenchmarkResult(
        predictions=aggregate.predictions(benchmark, items, answers),
        scores=aggregate.scores(benchmark, items, answers, config, model_name, **fields),
        num_asked=num_asked,
        questions=questions,
    )


def _score_tasks(
    benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, cache: AnswerCache, model_name: str
) -> _BenchmarkResult:
    """Ask and score the items of a benchmark by its tasks of lm-evaluation-harness."""
    from workbench.evaluation.harness import model, scores  # these import the harness, an optional extra

    assert isinstance(lm, TransformersLM)
    warn_of_closed_texts(benchmark.name, lm)
    harness_lm = model.HarnessLM(
        lm, cache, f"{model_name} · {benchmark.name}", config.fewshot_seed, benchmark.tasks.samples
    )
    predictions, task_scores = scores.evaluate(benchmark, harness_lm, config, model_name)
    if harness_lm.num_cut and rank_and_world_size()[0] == 0:
        log.warning(
            "benchmarks.%s: %d prompts are longer than the %d tokens that fit and were truncated at the "
            "start, as in lm-evaluation-harness",
            benchmark.name,
            harness_lm.num_cut,
            lm.max_length,
        )
    return _BenchmarkResult(
        predictions, task_scores, harness_lm.num_asked, measured={"num_cut": harness_lm.num_cut}
    )


def _ask(
    benchmark: PreparedBenchmark,
    answerer: Answerer,
    config: EvaluateConfig,
    cache: AnswerCache,
    model_name: str,
) -> tuple[list[AnsweredQuestion], int]:
    """Return all questions with their answers, and the number of items that this process asked."""
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
    answers, num_asked = answer_loop.ask(keyed(), answerer.answers, cache, title, len(flat), fits)
    all_items = iter(items)
    answered = []
    for question in questions:
        orders = [next(all_items) for _ in question]
        order_answers = [answers[_key(benchmark.config, config, item)] for item in orders]
        answered.append(AnsweredQuestion(orders, order_answers))
    return answered, num_asked


def _is_answer(output_type: OutputType, item: Item, answer: Answer) -> bool:
    """Return whether a cached answer fits an item: a text, or a log-likelihood of each choice."""
    if output_type is OutputType.generation:
        return answer.generation is not None
    if output_type is OutputType.multiple_choice:
        return len(answer.loglikelihoods) == len(item.example.continuations)
    return bool(answer.loglikelihoods)


def _rule(benchmark: BenchmarkConfig, config: EvaluateConfig) -> dict[str, object]:
    """Return everything besides model and prompt that an answer depends on."""
    rule: dict[str, object] = {
        "version": ANSWERS_VERSION,
        "output_type": benchmark.output_type.name,
        "scoring": benchmark.scoring.name,
        "max_length": config.max_length,
        "invariant": config.invariant,
    }
    if not config.shared_prefix:
        rule["shared_prefix"] = False
    if benchmark.output_type == OutputType["lm-eval"]:
        rule["seed"] = config.fewshot_seed
    if benchmark.output_type == OutputType.generation:
        limits = hashed(benchmark.generation, "benchmarks.*.generation")
        rule["generation"] = {key: str(value) for key, value in limits.items()}
        rule["as_harness"] = benchmark.protocol == "lm-eval"
        rule["seed"] = config.fewshot_seed
    return rule


def _key(benchmark: BenchmarkConfig, config: EvaluateConfig, item: Item) -> str:
    """Return the prompt's hash with everything else that the answer depends on.

    A sampled answer also depends on the item's id. With `invariant`, the bits of an answer also depend on the
    length of the prefix that is computed separately.
    """
    sampled = benchmark.output_type == OutputType.generation and benchmark.generation.temperature > 0
    key = f"{item.hash}/{item.example.id}" if sampled else item.hash
    return f"{key}/{item.num_shared}" if config.invariant else key
