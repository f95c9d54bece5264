"""Scores a model on benchmarks: fits items to it, asks what isn't known yet, judges, writes."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

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
from workbench.evaluation.rotations import combined, letters
from workbench.evaluation.transformers_classifier import TransformersClassifier
from workbench.evaluation.transformers_lm import TransformersLM, evaluation_mode
from workbench.evaluation.verification import Answerer, one_by_one, verify
from workbench.ranks import gathered, ranks

_CHUNK = 256
"""Items asked together at most; they share what their prompts have in common."""
_CHUNKS_PER_RANK = 4
log = logging.getLogger("workbench")


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model, and what was measured on the way."""

    scores: list[Score]
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    """Benchmark -> seconds, items_per_second, num_asked, computed_tokens, ...; belongs into run.json."""


@dataclass(frozen=True)
class _Asked:
    """A question in all orders of its options: items and answers, the original order first."""

    items: list[Item]
    answers: list[Answer]


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
        note: stands beside the scores.
    """
    found = Evaluation([])
    rank, _ = ranks()
    with evaluation_mode(model):
        lm = _model(model, tokenizer, benchmarks, config)
        for name, benchmark in benchmarks.items():
            start, before = time.perf_counter(), lm.computed_tokens
            folder = cache if config.cache and fingerprint else None
            kept = AnswerCache(folder, fingerprint, _rule(benchmark.config, config), rank)
            asked, count = _ask(benchmark, _answerer(lm, benchmark.config, config), kept, model_name)
            seconds = time.perf_counter() - start
            items = [question.items[0] for question in asked]
            answers = [combined(question.answers) for question in asked]
            if predictions is not None and rank == 0:
                path = predictions(model_name, name)
                write_predictions(path, scoring.predictions(benchmark, items, answers))
            more = {"note": note, **_about_letters(benchmark, asked)}
            found.scores.extend(scoring.scores(benchmark, items, answers, config, model_name, **more))
            found.measured[name] = {
                "seconds": seconds,
                "items_per_second": count / seconds,
                "num_asked": count,
                "computed_tokens": lm.computed_tokens - before,
                **_verified(model, tokenizer, benchmark.config, config, asked),
            }
    return found


def _ask(
    benchmark: PreparedBenchmark, answerer: Answerer, kept: AnswerCache, model_name: str
) -> tuple[list[_Asked], int]:
    """All questions with their answers, and how many items this process had to ask."""
    rank, world = ranks()
    questions = [[example, *example.rotations] for example in benchmark.examples]
    flat = [example for question in questions for example in question]
    items: list[Item] = []
    new: dict[str, Answer] = {}
    title = f"{model_name} · {benchmark.name}"
    with Progress(title, len(flat), rank == 0) as progress, kept.writing() as writer:
        for number, chunk in enumerate(_chunks(flat, world)):
            fitted = answerer.items(chunk)
            if not items:
                _warn_of_letters(benchmark, answerer, fitted[0])
            items.extend(fitted)
            waiting = {_key(benchmark.config, item): item for item in fitted}
            waiting = {
                key: item for key, item in waiting.items() if key not in kept and number % world == rank
            }
            keys = list(waiting)
            progress.advance(len(chunk) - len(keys))
            for index, answer in answerer.answers(list(waiting.values())):
                writer.add(keys[index], answer)
                new[keys[index]] = answer
                progress.advance(1)
    known = {**kept.answers, **gathered(new)}
    found = iter(items)
    asked = []
    for question in questions:
        same = [next(found) for _ in question]
        asked.append(_Asked(same, [known[_key(benchmark.config, item)] for item in same]))
    return asked, len(new)


def _chunks(examples: Sequence[Example], world: int) -> Iterator[list[Example]]:
    """Runs of items of the same subset, small enough for every process to get some."""
    size = min(_CHUNK, max(16, len(examples) // (world * _CHUNKS_PER_RANK))) if world > 1 else _CHUNK
    chunk: list[Example] = []
    for example in examples:
        if chunk and (chunk[0].subset != example.subset or len(chunk) == size):
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


def _warn_of_letters(benchmark: PreparedBenchmark, answerer: Answerer, item: Item) -> None:
    """Say it where the tokens of the letters that are scored aren't those that the prompt leads to."""
    warning = answerer.letter_warning(item) if isinstance(answerer, MultipleChoice) else None
    if warning and ranks()[0] == 0:
        log.warning("benchmarks.%s: %s", benchmark.name, warning)


def _about_letters(benchmark: PreparedBenchmark, asked: Sequence[_Asked]) -> dict[str, object]:
    """Further fields of the scores of lettered questions."""
    if not benchmark.config.options:
        return {}
    found: Counter[str] = Counter()
    for question in asked:
        found += letters(question.items[0].example, question.answers)
    orders = max(len(question.items) for question in asked)
    return {"letters": dict(sorted(found.items())), "permutations": orders}


def _verified(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: BenchmarkConfig,
    config: EvaluateConfig,
    asked: Sequence[_Asked],
) -> dict[str, float]:
    """The largest difference that scoring `evaluate.verify` items one by one makes; said in the log, too."""
    if not config.verify:
        return {}
    head = benchmark.output_type == OutputType.classification
    alone = (TransformersClassifier if head else TransformersLM)(model, tokenizer, one_by_one(config))
    items = [question.items[0] for question in asked]
    answers = [question.answers[0] for question in asked]
    found = verify(_answerer(alone, benchmark, config), items, answers, config.verify)
    log.info(
        "verify: %d items scored again one by one: largest difference %.2g nats, %d answers changed",
        found.num_items,
        found.largest_difference,
        found.num_changed,
    )
    return {f"verify_{key}": value for key, value in asdict(found).items()}


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
