"""Scores a model on benchmarks: fits items to it, asks what isn't known yet, judges, writes."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.config.history import hashed
from workbench.distributed import rank_and_world_size
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.inference.causal_lm import evaluation_mode
from workbench.evaluation.model_checks import check, named
from workbench.evaluation.prepared_benchmark import Outcome, PreparedBenchmark
from workbench.evaluation.records import Score, write_predictions
from workbench.evaluation.sharing_error import invariant_cost, verified
from workbench.evaluation.tasks.select_answerer import Model, in_role

ANSWERS_VERSION = 2
"""Raised when prompts are encoded or answers end in another way, so that no older answer is reused."""
log = logging.getLogger("workbench")


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model, and what was measured on the way."""

    scores: list[Score]
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    """Benchmark -> seconds, items_per_second, num_asked, computed_tokens, ...; belongs into run.json."""


PredictionFile = Callable[[str, str], Path]
"""Returns the file for a model's predictions on a benchmark, from the names of both."""

Publish = Callable[[PreparedBenchmark, list[Score], dict[str, float]], None]
"""Takes a benchmark's scores, and what was measured, as soon as they are known."""


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
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
            folder = cache if fingerprint else None
            kept = AnswerCache(folder, fingerprint, _rule(benchmark.config, config), rank, renew=renew)
            with named(name), decoding() if benchmark.interviewer.generates(benchmark) else nullcontext():
                judged, measured = _measured(benchmark, lm, config, kept, model_name)
                if predictions is not None and rank == 0:
                    write_predictions(predictions(model_name, name), judged.predictions)
            scores = [replace(score, note=note) for score in judged.scores]
            if publish is not None:
                publish(benchmark, scores, measured)
            found.scores.extend(scores)
            found.measured[name] = measured
    return found


def _measured(
    benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, kept: AnswerCache, model_name: str
) -> tuple[Outcome, dict[str, float]]:
    """What a model gave on a benchmark, and what that took."""
    start, before = time.perf_counter(), lm.computed_tokens
    judged = benchmark.interviewer.judged(benchmark, lm, config, kept, model_name)
    seconds, computed_tokens = time.perf_counter() - start, lm.computed_tokens - before
    per_item = seconds / judged.num_asked if judged.num_asked else 0.0
    return judged, {
        "seconds": seconds,
        "items_per_second": judged.num_asked / seconds,
        "num_asked": judged.num_asked,
        "computed_tokens": computed_tokens,
        **judged.measured,
        **verified(lm.model, lm.tokenizer, benchmark.config, config, judged.asked),
        **invariant_cost(lm.model, lm.tokenizer, benchmark, config, judged.asked, per_item),
    }


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
