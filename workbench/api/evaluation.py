"""A model in memory, scored on benchmarks."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.api.benchmarks import Benchmark, by_name
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation import engine
from workbench.evaluation.model_checks import check_kind
from workbench.evaluation.prepare_benchmarks import check_benchmarks
from workbench.evaluation.records import read_predictions
from workbench.leaderboard.results import Results
from workbench.models.adapters import attach
from workbench.models.ops.prepacked_linear import prepacked
from workbench.plain_values import check_known, section
from workbench.trust import trusting

log = logging.getLogger("workbench")

OF_A_RUN = ("models", "cache")
"""Fields of the section that are about the models and files of a run."""


def evaluate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Sequence[Benchmark | str] | Benchmark | str,
    *,
    name: str = "model",
    trust_code: bool = False,
    **settings: Any,
) -> Results:
    """Score a model that is in memory: any causal language model of transformers, or a sequence classifier.

        evaluate(model, tokenizer, ["toy_choice_zh", load_benchmark("cmmlu", path="CMMLU")], name="base")

    Args:
        model: From `load_model` or from anywhere else, with or without an adapter; it is left as it was.
        tokenizer: The model's.
        benchmarks: From `load_benchmark`, or their names.
        name: What the results call the model.
        trust_code: Run code that a benchmark names: metrics of files, functions of lm-eval tasks.
        settings: Fields of `EvaluateConfig`, such as batch_tokens, chat_template, permutations, confidence.

    Raises:
        WorkbenchError: An unknown setting, a benchmark that can't be read, or one for another kind of model.
    """
    known = [field for field in EvaluateConfig.__dataclass_fields__ if field not in OF_A_RUN]
    for setting in settings:
        check_known(setting, known, "evaluate")
    config = section(EvaluateConfig, settings, "evaluate")
    plain = attach.inner_model(model) if isinstance(model, PeftModel) else model
    chosen = by_name(benchmarks)
    check_kind(plain, chosen)
    with trusting(trust_code), tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        prepared = check_benchmarks(chosen, config)
        for benchmark in prepared.values():
            for warning in benchmark.warnings:
                log.warning("benchmarks.%s: %s", benchmark.name, warning)
        files = {benchmark: Path(folder) / f"{number}.jsonl" for number, benchmark in enumerate(prepared)}
        found = engine.evaluate(
            plain,
            tokenizer,
            prepared,
            config,
            model_name=name,
            predictions=lambda _, benchmark: files[benchmark],
            decoding=prepacked,
        )
        predictions = {key: read_predictions(file) for key, file in files.items() if file.exists()}
    return Results(model=name, scores=found.scores, predictions=predictions, measured=found.measured)
