"""Scores a model on benchmarks: fits items to it, asks what isn't known yet, judges, writes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError
from workbench.evaluation import scoring
from workbench.evaluation.benchmark import PreparedBenchmark
from workbench.evaluation.cache import AnswerCache
from workbench.evaluation.classification import Classification
from workbench.evaluation.generation import Generation
from workbench.evaluation.items import Item
from workbench.evaluation.multiple_choice import MultipleChoice
from workbench.evaluation.perplexity import Perplexity
from workbench.evaluation.progress import Progress
from workbench.evaluation.records import Answer, Example, Score, write_predictions
from workbench.evaluation.transformers_classifier import TransformersClassifier
from workbench.evaluation.transformers_lm import TransformersLM, evaluation_mode

_CHUNK = 256
"""Items asked together at most; they share what their prompts have in common."""


class Answerer(Protocol):
    """A way to get answers from a model."""

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """The examples as the model is asked them."""

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each item, as soon as it is known."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model, and what was measured on the way."""

    scores: list[Score]
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    """Benchmark -> seconds, items_per_second, num_asked, computed_tokens; belongs into run.json."""


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
    note: str = "",
) -> Evaluation:
    """Score a model on benchmarks that `check_benchmarks` prepared; the same items serve every model.

    The model's modes (training or not) and the global random state are left as they were.

    Args:
        model: a causal language model, or one with a classification head where the benchmarks want one.
        tokenizer: the model's.
        benchmarks: name -> prepared benchmark.
        config: how to score.
        model_name: base, adapter or merged; stands beside the scores.
        fingerprint: of weights, adapter, quantization and dtype; answers are kept under it.
        predictions: gives the file of a model's predictions on a benchmark (RunDir.predictions), or None.
        cache: folder of answers already had; None, or an empty fingerprint, keeps none.
        note: stands beside the scores.
    """
    found = Evaluation([])
    with evaluation_mode(model):
        lm = _model(model, tokenizer, benchmarks, config)
        for name, benchmark in benchmarks.items():
            start, before = time.perf_counter(), lm.computed_tokens
            answerer = _answerer(lm, benchmark.config, config)
            kept = AnswerCache(
                cache if config.cache and fingerprint else None, fingerprint, _rule(benchmark.config, config)
            )
            items, asked = _ask(benchmark, answerer, kept, model_name)
            answers = [kept[_key(benchmark.config, item)] for item in items]
            if predictions is not None:
                write_predictions(
                    predictions(model_name, name), scoring.predictions(benchmark, items, answers)
                )
            found.scores.extend(scoring.scores(benchmark, items, answers, config, model_name, note))
            seconds = time.perf_counter() - start
            found.measured[name] = {
                "seconds": seconds,
                "items_per_second": asked / seconds,
                "num_asked": asked,
                "computed_tokens": lm.computed_tokens - before,
            }
    return found


def _ask(
    benchmark: PreparedBenchmark, answerer: Answerer, kept: AnswerCache, model_name: str
) -> tuple[list[Item], int]:
    """All items, and how many had to be asked; their answers are in the cache then."""
    items: list[Item] = []
    asked = 0
    title = f"{model_name} · {benchmark.name}"
    with Progress(title, len(benchmark.examples)) as progress, kept.writing() as writer:
        for chunk in _chunks(benchmark.examples):
            fitted = answerer.items(chunk)
            items.extend(fitted)
            waiting = {_key(benchmark.config, item): item for item in fitted}
            waiting = {key: item for key, item in waiting.items() if key not in kept}
            keys = list(waiting)
            progress.advance(len(chunk) - len(keys))
            for index, answer in answerer.answers(list(waiting.values())):
                writer.add(keys[index], answer)
                progress.advance(1)
            asked += len(keys)
    return items, asked


def _chunks(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Runs of items of the same subset."""
    chunk: list[Example] = []
    for example in examples:
        if chunk and (chunk[0].subset != example.subset or len(chunk) == _CHUNK):
            yield chunk
            chunk = []
        chunk.append(example)
    if chunk:
        yield chunk


def _model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Mapping[str, PreparedBenchmark],
    config: EvaluateConfig,
) -> TransformersLM | TransformersClassifier:
    """The model in the role that the benchmarks want.

    Raises:
        ConfigError: some want a head and some don't.
    """
    heads = {b.config.output_type == OutputType.classification for b in benchmarks.values()}
    if len(heads) > 1:
        raise ConfigError("benchmarks: some are for a classification head and some for a causal model")
    return (TransformersClassifier if True in heads else TransformersLM)(model, tokenizer, config)


def _answerer(
    lm: TransformersLM | TransformersClassifier, benchmark: BenchmarkConfig, config: EvaluateConfig
) -> Answerer:
    if isinstance(lm, TransformersClassifier):
        return Classification(lm, benchmark)
    if benchmark.output_type == OutputType.generation:
        return Generation(lm, benchmark, config.fewshot_seed, config.chat_template)
    if benchmark.output_type == OutputType.perplexity:
        return Perplexity(lm)
    return MultipleChoice(lm, benchmark, config.chat_template)


def _rule(benchmark: BenchmarkConfig, config: EvaluateConfig) -> dict[str, object]:
    """Everything besides model and prompt that an answer depends on."""
    rule: dict[str, object] = {
        "output_type": benchmark.output_type.name,
        "scoring": benchmark.scoring.name,
        "max_length": config.max_length,
        "invariant": config.invariant,
    }
    if benchmark.output_type == OutputType.generation:
        limits = asdict(benchmark.generation)
        rule["generation"] = {key: str(value) for key, value in limits.items()}
        rule["seed"] = config.fewshot_seed
    return rule


def _key(benchmark: BenchmarkConfig, item: Item) -> str:
    """The prompt's hash; with the item's id where the answer is sampled, as its chance depends on that."""
    sampled = benchmark.output_type == OutputType.generation and benchmark.generation.temperature > 0
    return f"{item.hash}/{item.example.id}" if sampled else item.hash
