"""Scores a model in memory on benchmarks."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.api.benchmarks import Benchmark, by_name
from workbench.config.evaluate import EvaluateConfig, check_chat_settings
from workbench.evaluation import engine
from workbench.evaluation.model_checks import check_kind
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import read_predictions
from workbench.evaluation.too_long_items import check_each_left
from workbench.leaderboard.results import Results
from workbench.models.adapters import attach
from workbench.models.ops.prepacked_linear import prepacked
from workbench.plain_values import check_known, section
from workbench.trust import trusting

log = logging.getLogger("workbench")

OF_A_RUN = ("models", "name")
"""Fields of the evaluate section that only a run uses, so that `evaluate` refuses them as settings."""


def evaluate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Sequence[Benchmark | str] | Benchmark | str,
    *,
    name: str = "model",
    trust_code: bool = False,
    **settings: Any,
) -> Results:
    """Score any causal language model of transformers, or a sequence classifier, on benchmarks.

        evaluate(model, tokenizer, ["toy_choice_zh", load_benchmark("cmmlu", path="CMMLU")], name="base")

    Args:
        model: From `load_model` or from elsewhere, with or without an adapter; its state is not changed.
        tokenizer: The model's tokenizer.
        benchmarks: From `load_benchmark`, or names or YAML files of benchmarks; one or several.
        name: Name of the model in the results.
        trust_code: Run code that a benchmark names: metrics in files, functions of lm-eval tasks.
        settings: Fields of `EvaluateConfig`, such as batch_tokens, chat_template, permutations, confidence.

    Returns:
        The scores with the answer to every item; no files are kept.

    Raises:
        WorkbenchError: A setting is unknown, a benchmark can't be read or needs another kind of model, or all
            items of all benchmarks are too long for the model.
    """
    known = [field for field in EvaluateConfig.__dataclass_fields__ if field not in OF_A_RUN]
    for setting in settings:
        check_known(setting, known, "evaluate")
    config = section(EvaluateConfig, settings, "evaluate")
    chosen = by_name(benchmarks)
    check_chat_settings(config, chosen.values())
    inner = attach.inner_model(model) if isinstance(model, PeftModel) else model
    check_kind(inner, chosen)
    with trusting(trust_code), tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        prepared = prepare_benchmarks(chosen, config)
        log_warnings(prepared)
        files = {benchmark: Path(folder) / f"{number}.jsonl" for number, benchmark in enumerate(prepared)}
        evaluation = engine.evaluate(
            inner,
            tokenizer,
            prepared,
            config,
            model_name=name,
            predictions=lambda _, benchmark: files[benchmark],
            decoding=prepacked,
        )
        if not evaluation.scores:
            check_each_left(prepared, (), config)
        predictions = {key: read_predictions(file) for key, file in files.items() if file.exists()}
    return Results(
        model=name, scores=evaluation.scores, predictions=predictions, measured=evaluation.measured
    )


def log_warnings(benchmarks: Mapping[str, PreparedBenchmark]) -> None:
    """Log the warnings that `prepare_benchmarks` has stored in each benchmark; keys are benchmark names."""
    for name, benchmark in benchmarks.items():
        for warning in benchmark.warnings:
            log.warning("benchmarks.%s: %s", name, warning)
