"""Scores a model on benchmarks, and writes predictions and scores."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.config.history import hashed
from workbench.contexts import evaluation_mode
from workbench.distributed import is_rank0, rank_and_world_size
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.endpoint.chat_endpoint import ChatEndpoint
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.evaluation.model_checks import check, naming_benchmark
from workbench.evaluation.prepared_benchmark import Outcome, PreparedBenchmark
from workbench.evaluation.records import Score, write_predictions
from workbench.evaluation.sharing_error import invariant_cost, verified
from workbench.evaluation.tasks.select_answerer import Model, in_role

ANSWERS_VERSION = 3
"""Increased when prompts are encoded or answers end in another way, so that cached answers are not reused."""
CHAT_PROTOCOL = ", by the endpoint's chats"
"""End of a protocol's name where an endpoint has rendered the prompts: no other score is compared with it."""
log = logging.getLogger("workbench")


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model, and measurements of speed."""

    scores: list[Score]
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    """Benchmark -> seconds, items_per_second, num_asked, computed_tokens, ...; for run.json."""


PredictionFile = Callable[[str, str], Path]
"""Returns the file for a model's predictions on a benchmark, from the names of both."""

Publish = Callable[[PreparedBenchmark, list[Score], dict[str, float]], None]
"""Receives a benchmark, its scores, and its measurements, as soon as they are known."""


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    benchmarks: Mapping[str, PreparedBenchmark],
    config: EvaluateConfig,
    *,
    model_name: str,
    fingerprint: str = "",
    predictions: PredictionFile | None = None,
    cache: Path | None = None,
    renew: bool = False,
    note: str = "",
    publish: Publish | None = None,
    decoding: Callable[[], AbstractContextManager[None]] = nullcontext,
    finished: Mapping[str, PreparedBenchmark] | None = None,
) -> Evaluation:
    """Score a model on benchmarks that `prepare_benchmarks` prepared.

    The model's train or eval mode and the global random state don't change. Ranks share the items; each rank
    returns all scores, and rank 0 writes the files.

    Args:
        model: A causal language model, or a classifier if the benchmarks need a classification head.
        tokenizer: The model's tokenizer; None: the model is behind an endpoint that is asked by chats.
        benchmarks: Name -> prepared benchmark.
        config: The evaluate section.
        model_name: Name of the model, such as `base` or `adapter`; a field of each score.
        fingerprint: Fingerprint of weights, adapter, quantization and dtype, which names the cached answers.
        predictions: Returns the file for predictions from the names of model and benchmark; None: no file.
        cache: Folder of cached answers; None, or an empty fingerprint: answers are not cached.
        renew: Whether cached answers are deleted and asked again.
        note: Remark of the caller, copied to the field `note` of each score.
        publish: Called with each benchmark's results before the next benchmark starts.
        decoding: Returns a context in which texts are generated, such as one with prepacked weights.
        finished: Benchmarks that have scores; some cached items of one are asked again at an endpoint.

    Raises:
        CheckpointError: The model's logits are NaN.
        ConfigError: A setting doesn't fit the model, such as `max_length` or the chat template.
        DataError: A question is too long, or answers change when asked again (predictions aren't written).
    """
    evaluation = Evaluation([])
    cached = _Cached(cache if fingerprint else None, fingerprint, config, renew)
    with evaluation_mode(model):
        lm = in_role(model, tokenizer, [benchmark.config for benchmark in benchmarks.values()], config)
        check(lm, benchmarks, config, model_name)
        _guard(lm, [*(finished or {}).values(), *benchmarks.values()], cached)
        for name, benchmark in benchmarks.items():
            answers = cached.answers(benchmark)
            generates = benchmark.interviewer.generates(benchmark)
            with naming_benchmark(name), decoding() if generates else nullcontext():
                outcome, measured = _measure(benchmark, lm, config, answers, model_name)
                if predictions is not None and is_rank0():
                    write_predictions(predictions(model_name, name), outcome.predictions)
            scores = _marked(outcome.scores, lm, note)
            if publish is not None:
                publish(benchmark, scores, measured)
            evaluation.scores.extend(scores)
            evaluation.measured[name] = measured
    return evaluation


@dataclass(frozen=True)
class _Cached:
    """Where a model's answers are cached."""

    folder: Path | None
    fingerprint: str
    config: EvaluateConfig
    renew: bool

    def answers(self, benchmark: PreparedBenchmark) -> AnswerCache:
        rule, (rank, _) = _rule(benchmark.config, self.config), rank_and_world_size()
        return AnswerCache(self.folder, self.fingerprint, rule, rank, renew=self.renew)


def _guard(lm: Model, benchmarks: Sequence[PreparedBenchmark], cached: _Cached) -> None:
    """Let an endpoint be asked again, before it answers anything new, what it has answered before.

    `check_kept` does so for the benchmark that goes on; if that was not begun, the first of `benchmarks` with
    cached answers takes its place.
    """

    def check_one() -> None:
        for benchmark in benchmarks:
            if benchmark.interviewer.check_kept(benchmark, lm, cached.config, cached.answers(benchmark)):
                return

    if isinstance(lm.model, EndpointModel) and not cached.renew:
        lm.model.check_others = check_one


def _measure(
    benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, cache: AnswerCache, model_name: str
) -> tuple[Outcome, dict[str, float]]:
    """Evaluate a model on one benchmark, and return the outcome with measurements of time and work."""
    start, tokens_before = time.perf_counter(), lm.computed_tokens
    outcome = benchmark.interviewer.evaluate(benchmark, lm, config, cache, model_name)
    seconds, computed_tokens = time.perf_counter() - start, lm.computed_tokens - tokens_before
    seconds_per_item = seconds / outcome.num_asked if outcome.num_asked else 0.0
    return outcome, {
        "seconds": seconds,
        "items_per_second": outcome.num_asked / seconds,
        "num_asked": outcome.num_asked,
        "computed_tokens": computed_tokens,
        **outcome.measured,
        **_checked(benchmark, lm, config, outcome, seconds_per_item),
    }


def _marked(scores: Sequence[Score], lm: Model, note: str) -> list[Score]:
    """Return the scores with the caller's note, and those of an endpoint's chats with their own protocol."""
    end = CHAT_PROTOCOL if isinstance(lm, ChatEndpoint) else ""
    return [replace(score, note=note, protocol=f"{score.protocol}{end}") for score in scores]


def _checked(
    benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, outcome: Outcome, seconds_per_item: float
) -> dict[str, float]:
    """Ask items again as `evaluate.verify` and `evaluate.invariant` say; return the measurements."""
    if isinstance(lm, ChatEndpoint):
        return {}
    return {
        **verified(lm.model, lm.tokenizer, benchmark.config, config, outcome.asked),
        **invariant_cost(lm.model, lm.tokenizer, benchmark, config, outcome.asked, seconds_per_item),
    }


def _rule(benchmark: BenchmarkConfig, config: EvaluateConfig) -> dict[str, object]:
    """Return the settings that an answer depends on besides model and prompt, as an AnswerCache's `rule`."""
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
