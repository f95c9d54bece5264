"""Scores a model on benchmarks: fits items to it, asks what isn't known yet, judges, writes."""

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
    Asked,
    about_letters,
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
"""Raised when prompts are encoded or answers end in another way, so that no older answer is reused."""
log = logging.getLogger("workbench")


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model, and what was measured on the way."""

    scores: list[Score]
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    """Benchmark -> seconds, items_per_second, num_asked, computed_tokens, ...; belongs into run.json."""


Publish = Callable[[PreparedBenchmark, list[Score], dict[str, float]], None]
"""Takes a benchmark's scores, and what was measured, as soon as they are known."""


@dataclass(frozen=True)
class _Judged:
    """What a model gave on one benchmark."""

    predictions: list[Prediction]
    scores: list[Score]
    num_asked: int
    asked: list[Asked] = field(default_factory=list)
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
    """Score a model on benchmarks that `check_benchmarks` prepared; the same items serve every model.

    The model's modes (training or not) and the global random state are left as they were. Processes started
    by torchrun share the items; each returns all scores, the first one writes the files.

    Args:
        model: a causal language model, or one with a classification head where the benchmarks want one.
        tokenizer: the model's.
        benchmarks: name -> prepared benchmark.
        config: how to score.
        model_name: base, adapter or merged; stands beside the scores.
        fingerprint: of weights, adapter, quantization and dtype; answers are kept under it.
        predictions: gives the file of a model's predictions on a benchmark (RunDir.predictions), or None.
        cache: folder of answers already had; None, or an empty fingerprint, keeps none.
        renew: ask again what the cache has answers to.
        note: stands beside the scores.
        publish: told of each benchmark that is done, before the next one begins.
        decoding: context in which texts are generated, such as one that keeps weights ready for it.

    Raises:
        DataError: answers are others when asked one by one (`evaluate.verify`); nothing of the benchmark is
            written then.
    """
    found = Evaluation([])
    rank, _ = rank_and_world_size()
    with evaluation_mode(model):
        lm = in_role(model, tokenizer, [benchmark.config for benchmark in benchmarks.values()], config)
        check(lm, benchmarks, config, model_name)
        for name, benchmark in benchmarks.items():
            start, before = time.perf_counter(), lm.computed_tokens
            folder = cache if config.cache and fingerprint else None
            kept = AnswerCache(folder, fingerprint, _rule(benchmark.config, config), rank, renew=renew)
            decodes = benchmark.tasks or benchmark.config.output_type is OutputType.generation
            with named(name), decoding() if decodes else nullcontext():
                judged = (_judged_by_tasks if benchmark.tasks else _judged)(
                    benchmark, lm, config, kept, model_name
                )
                seconds = time.perf_counter() - start
                each = seconds / judged.num_asked if judged.num_asked else 0.0
                measured = {
                    "seconds": seconds,
                    "items_per_second": judged.num_asked / seconds,
                    "num_asked": judged.num_asked,
                    "computed_tokens": lm.computed_tokens - before,
                    **judged.measured,
                    **verified(model, tokenizer, benchmark.config, config, judged.asked),
                    **invariant_cost(model, tokenizer, benchmark, config, judged.asked, each),
                }
                if predictions is not None and rank == 0:
                    write_predictions(predictions(model_name, name), judged.predictions)
            scores = [replace(score, note=note) for score in judged.scores]
            if publish is not None:
                publish(benchmark, scores, measured)
            found.scores.extend(scores)
            found.measured[name] = measured
    return found


def _judged(
    benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, kept: AnswerCache, model_name: str
) -> _Judged:
    """A benchmark asked and judged as its configuration says."""
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
    more = about_letters(benchmark, asked)
    return _Judged(
        predictions=aggregate.predictions(benchmark, items, answers),
        scores=aggregate.scores(benchmark, items, answers, config, model_name, **more),
        num_asked=count,
        asked=asked,
    )


def _judged_by_tasks(
    benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, kept: AnswerCache, model_name: str
) -> _Judged:
    """A benchmark asked and judged by tasks of lm-evaluation-harness."""
    from workbench.evaluation.harness import model, scores  # these import the harness, an optional extra

    assert isinstance(lm, TransformersLM)
    warn_of_closed_texts(benchmark.name, lm)
    asking_lm = model.HarnessLM(
        lm, kept, f"{model_name} · {benchmark.name}", config.fewshot_seed, benchmark.tasks.samples
    )
    predictions, found = scores.evaluate(benchmark, asking_lm, config, model_name)
    if asking_lm.num_cut and rank_and_world_size()[0] == 0:
        log.warning(
            "benchmarks.%s: %d prompts are longer than the %d tokens that fit and lost their beginning, "
            "as in lm-evaluation-harness",
            benchmark.name,
            asking_lm.num_cut,
            lm.max_length,
        )
    return _Judged(predictions, found, asking_lm.num_asked, measured={"num_cut": asking_lm.num_cut})


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


def _rule(benchmark: BenchmarkConfig, config: EvaluateConfig) -> dict[str, object]:
    """Everything besides model and prompt that an answer depends on."""
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
    """The prompt's hash, with what else the answer depends on.

    That is the item's id where the answer is sampled, and with `invariant`, to the bit, where the beginning
    ends that is computed apart.
    """
    sampled = benchmark.output_type == OutputType.generation and benchmark.generation.temperature > 0
    key = f"{item.hash}/{item.example.id}" if sampled else item.hash
    return f"{key}/{item.num_shared}" if config.invariant else key
