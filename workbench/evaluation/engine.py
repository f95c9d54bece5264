"""Scores a model on benchmarks: fits items to it, asks what isn't known yet, judges, writes."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import CheckpointError, ConfigError, DataError
from workbench.evaluation import asking, scoring
from workbench.evaluation.cache import AnswerCache
from workbench.evaluation.classification import Classification
from workbench.evaluation.generation import Generation
from workbench.evaluation.items import Item, long_ones
from workbench.evaluation.multiple_choice import MultipleChoice
from workbench.evaluation.perplexity import Perplexity
from workbench.evaluation.prefix_tree import TokenRequest
from workbench.evaluation.prepared import PreparedBenchmark
from workbench.evaluation.records import Prediction, Score, write_predictions
from workbench.evaluation.remarks import Asked, about_letters, warn_of_letters, warn_of_shots
from workbench.evaluation.rotations import combined
from workbench.evaluation.tokens import context_length
from workbench.evaluation.transformers_classifier import TransformersClassifier
from workbench.evaluation.transformers_lm import TransformersLM, evaluation_mode
from workbench.evaluation.verification import Answerer, one_by_one, verify
from workbench.models.prepacked import prepacked
from workbench.ranks import ranks

Model = TransformersLM | TransformersClassifier
_COST_SAMPLE = 32
"""Items that are scored again without `invariant`, to say what it cost."""
log = logging.getLogger("workbench")


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model, and what was measured on the way."""

    scores: list[Score]
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    """Benchmark -> seconds, items_per_second, num_asked, computed_tokens, ...; belongs into run.json."""


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
        _check(lm, benchmarks, config, model_name)
        for name, benchmark in benchmarks.items():
            start, before = time.perf_counter(), lm.computed_tokens
            folder = cache if config.cache and fingerprint else None
            kept = AnswerCache(folder, fingerprint, _rule(benchmark.config, config), rank)
            decodes = benchmark.tasks or benchmark.config.output_type is OutputType.generation
            with named(name), prepacked() if decodes else nullcontext():
                judged = (_judged_by_tasks if benchmark.tasks else _judged)(
                    benchmark, lm, config, kept, model_name
                )
                seconds = time.perf_counter() - start
                if predictions is not None and rank == 0:
                    write_predictions(predictions(model_name, name), judged.predictions)
                found.scores.extend(replace(score, note=note) for score in judged.scores)
                found.measured[name] = {
                    "seconds": seconds,
                    "items_per_second": judged.num_asked / seconds,
                    "num_asked": judged.num_asked,
                    "computed_tokens": lm.computed_tokens - before,
                    **judged.measured,
                    **_verified(model, tokenizer, benchmark.config, config, judged.asked),
                    **_cost(model, tokenizer, benchmark, config, judged, seconds),
                }
    return found


def _check(
    lm: Model, benchmarks: Mapping[str, PreparedBenchmark], config: EvaluateConfig, model_name: str
) -> None:
    """Find what can't be asked before anything is.

    Raises:
        CheckpointError: the model's logits are not numbers.
        ConfigError: longer prompts than the model holds are allowed, or a chat template is missing.
        DataError: a question alone is too long for the model.
    """
    held = context_length(lm.model, lm.tokenizer)
    if config.max_length is not None and config.max_length > held:
        raise ConfigError(f"evaluate.max_length: {config.max_length} (the model holds {held} tokens)")
    if config.chat_template and not lm.tokenizer.chat_template:
        raise ConfigError(
            "evaluate.chat_template: the model's tokenizer has none (false, or model.tokenizer)"
        )
    if not _gives_numbers(lm):
        raise CheckpointError(
            f"{model_name}: the model's logits are not numbers (damaged weights, or a dtype "
            "with too small a range: try model.dtype=float32)"
        )
    for benchmark in benchmarks.values():
        if benchmark.tasks is None:
            with named(benchmark.name):
                longest = lm.max_length - benchmark.config.generation.max_new_tokens
                _answerer(lm, benchmark.config, config).items(long_ones(benchmark.examples, longest))


@contextmanager
def named(benchmark: str) -> Iterator[None]:
    """Put a benchmark's name before what is wrong with an item or key of it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"benchmarks.{benchmark}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"benchmarks.{benchmark}.{error}") from error


def _gives_numbers(lm: Model) -> bool:
    """Whether one short text gets a log-probability."""
    if isinstance(lm, TransformersClassifier):
        [(_, values)] = lm.stream(["a"])
        return not any(map(math.isnan, values))
    [found] = lm.loglikelihoods([TokenRequest((lm.start_token, lm.start_token), 1)])
    return not math.isnan(found.loglikelihood)


def _judged(
    benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, kept: AnswerCache, model_name: str
) -> _Judged:
    """A benchmark asked and judged as its configuration says."""
    asked, count = _ask(benchmark, _answerer(lm, benchmark.config, config), config, kept, model_name)
    items = [question.items[0] for question in asked]
    answers = [combined(question.answers) for question in asked]
    warn_of_shots(benchmark, items, lm.max_length)
    more = about_letters(benchmark, asked)
    return _Judged(
        predictions=scoring.predictions(benchmark, items, answers),
        scores=scoring.scores(benchmark, items, answers, config, model_name, **more),
        num_asked=count,
        asked=asked,
    )


def _judged_by_tasks(
    benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, kept: AnswerCache, model_name: str
) -> _Judged:
    """A benchmark asked and judged by tasks of lm-evaluation-harness."""
    from workbench.evaluation.harness import model, scores  # these import the harness, an optional extra

    assert isinstance(lm, TransformersLM)
    asking_lm = model.HarnessLM(lm, kept, f"{model_name} · {benchmark.name}", config.fewshot_seed)
    predictions, found = scores.evaluate(benchmark, asking_lm, config, model_name)
    if asking_lm.num_cut and ranks()[0] == 0:
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
        for chunk in asking.chunks(flat, lambda example: example.subset):
            fitted = answerer.items(chunk)
            if not items:
                warn_of_letters(benchmark, answerer, fitted[0])
            items.extend(fitted)
            yield [(_key(benchmark.config, config, item), item) for item in fitted]

    known, count = asking.ask(keyed(), answerer.answers, kept, f"{model_name} · {benchmark.name}", len(flat))
    found = iter(items)
    asked = []
    for question in questions:
        same = [next(found) for _ in question]
        asked.append(Asked(same, [known[_key(benchmark.config, config, item)] for item in same]))
    return asked, count


def _model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Mapping[str, PreparedBenchmark],
    config: EvaluateConfig,
) -> Model:
    """The model in the role that the benchmarks want.

    Raises:
        ConfigError: some want a head and some don't.
    """
    heads = {b.config.output_type == OutputType.classification for b in benchmarks.values()}
    if len(heads) > 1:
        raise ConfigError("benchmarks: some are for a classification head and some for a causal model")
    return (TransformersClassifier if True in heads else TransformersLM)(model, tokenizer, config)


def _answerer(lm: Model, benchmark: BenchmarkConfig, config: EvaluateConfig) -> Answerer:
    if isinstance(lm, TransformersClassifier):
        return Classification(lm, benchmark)
    if benchmark.output_type == OutputType.generation:
        return Generation(lm, benchmark, config.fewshot_seed, config.chat_template)
    if benchmark.output_type == OutputType.perplexity:
        return Perplexity(lm)
    return MultipleChoice(lm, benchmark, config.chat_template)


def _verified(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: BenchmarkConfig,
    config: EvaluateConfig,
    asked: Sequence[Asked],
) -> dict[str, float]:
    """The largest difference that scoring `evaluate.verify` items one by one makes; said in the log, too."""
    if not config.verify or not asked:
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


def _cost(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: PreparedBenchmark,
    config: EvaluateConfig,
    judged: _Judged,
    seconds: float,
) -> dict[str, float]:
    """How many times as long `invariant` took for an item as a sample without it; said in the log, too."""
    if not config.invariant or not judged.num_asked or not judged.asked:
        return {}
    plain = replace(config, invariant=False)
    answerer = _answerer(_model(model, tokenizer, {"": benchmark}, plain), benchmark.config, plain)
    sample = [question.items[0] for question in judged.asked[:_COST_SAMPLE]]
    start = time.perf_counter()
    count = sum(1 for _ in answerer.answers(sample))
    cost = (seconds / judged.num_asked) / ((time.perf_counter() - start) / count)
    log.info("invariant: an item of %s took %.1f times as long as without", benchmark.name, cost)
    return {"invariant_cost": cost}


def _rule(benchmark: BenchmarkConfig, config: EvaluateConfig) -> dict[str, object]:
    """Everything besides model and prompt that an answer depends on."""
    rule: dict[str, object] = {
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
        limits = asdict(benchmark.generation)
        rule["generation"] = {key: str(value) for key, value in limits.items()}
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
