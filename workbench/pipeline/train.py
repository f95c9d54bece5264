"""The train step: trains an adapter, or the model itself, and reports on its answers."""

import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.api.examples import Examples
from workbench.api.training import TrainingSections, train_weights, trained_folder
from workbench.config import Config
from workbench.config.adapter import ALL_LINEAR, LORA_METHODS
from workbench.config.names import ADAPTER, BASE, TRAINED
from workbench.data.report import data_report
from workbench.distributed import is_rank0
from workbench.errors import ConfigError
from workbench.evaluation import engine
from workbench.evaluation.metric_directions import lower_is_better
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.result_checksums import ADAPTER_DIGEST, RECIPE_DIGEST
from workbench.evaluation.too_long_items import check_each_left
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.targets import check_saved
from workbench.models.architecture import unpacked_method
from workbench.models.loading import outline
from workbench.models.ops.prepacked_linear import prepacked
from workbench.models.tokenizers.load_tokenizer import token_ids
from workbench.pipeline.held_out.rows_file import write_rows
from workbench.pipeline.plan.forecast import log_forecast_of_examples
from workbench.pipeline.run_results import scoring_fingerprint
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import (
    recipe_fingerprint,
    run_autocast_dtype,
    skip_finished,
    training_inputs,
)
from workbench.pipeline.stop_rate import Endings, answer_report, count_endings, draw_prompts
from workbench.pipeline.training_rows import encoded_examples, limits_of_comparison, trained_on_chats
from workbench.run_dir import fingerprint, write_json
from workbench.run_record import RunRecord
from workbench.training.fit import TrainReport
from workbench.training.memory_release import keep_few_kernels
from workbench.training.resume import checkpoint_folders, delete_checkpoints
from workbench.training.trainer import Score
from workbench.wrapping import plain_console

log = logging.getLogger("workbench")


def train(run: Run) -> None:
    """Train the adapter, or with `adapter=none` the model itself, on the rows of the data section.

    Writes weights, checkpoints, train.json, train.jsonl, loss.svg and the held-out rows into the run's
    folder, and records the step in run.json. A finished training is not repeated, and an interrupted one is
    resumed; `force` starts from the beginning. All ranks must call this.

    Raises:
        WorkbenchError: A row, model or benchmark can't be read, or the training failed.
    """
    config, run_dir = run.config, run.run_dir
    output = trained_folder(run_dir, config.adapter)
    scored = score_on_benchmarks(run)
    settings, record = train_step_inputs(config, scored), RunRecord(run_dir.run_json)
    inputs = fingerprint(settings)
    if skip_finished("train", record.is_finished("train", inputs, output), config):
        return
    if config.force and is_rank0():
        delete_checkpoints(run_dir.checkpoints)
    examples = encoded_examples(run)
    tokenizer, held_out = examples.tokenizer, report_examples(run, examples)
    prompts = draw_prompts(run, examples.hold_out.held_out, examples.rows, tokenizer) if is_rank0() else None
    keep_few_kernels()  # before the forecast, which measures the speed of matrix products
    log_forecast_of_examples(run, examples)
    log_steps_done(run_dir.checkpoints)
    endings: dict[str, Endings] = {}

    def count_base_endings(base: PreTrainedModel) -> None:
        if prompts and not config.model.init:
            endings[BASE] = count_endings(base, tokenizer, prompts, config.evaluate, BASE)

    model, report = train_weights(
        TrainingSections(
            model=config.model,
            quantization=config.quantization,
            adapter=config.adapter,
            train=config.train,
            seed=config.seed,
        ),
        examples,
        run_dir,
        inputs=inputs,
        autocast=run_autocast_dtype(run),
        score=mean_scorer(config, tokenizer, scored) if scored else None,
        on_base=count_base_endings,
    )
    if not is_rank0():
        return
    if prompts:
        name = TRAINED if config.adapter.is_none else ADAPTER
        endings[name] = count_endings(model, tokenizer, prompts, config.evaluate, name)
    answers = answer_report(prompts, endings) if prompts else None
    write_json(run_dir.train_json, described_rows(config, examples, held_out) | {"answers": answers})
    files = [run_dir.train_json, run_dir.train_jsonl, run_dir.loss_svg, run_dir.held_out_jsonl]
    written, digests = [file for file in files if file.exists()], training_digests(config, settings, output)
    record.finish("train", inputs, output, measured(config, report), files=written, digests=digests)


def described_rows(config: Config, examples: Examples, held_out: dict[str, Any]) -> dict[str, Any]:
    """Return what train.json says of the rows that were trained on.

    Args:
        config: The configuration.
        examples: The rows.
        held_out: The field `held_out`, from `write_rows`.
    """
    return {
        "schema_version": 1,
        "labels": examples.labels,
        "data": examples.training.account.as_json(),
        "held_out": held_out,
        "is_chat": trained_on_chats(config, examples.rows),
    }


def measured(config: Config, report: TrainReport) -> dict[str, Any]:
    """Return the fields of a TrainReport for run.json, and `unpacked` if a quantized checkpoint was unpacked.

    `unpacked` is the method by which it was quantized.

    Raises:
        CheckpointError: The weights are quantized in a way that can't be unpacked.
    """
    unpacked = unpacked_method(config.model, config.quantization)
    return {**asdict(report), **({"unpacked": unpacked} if unpacked else {})}


def training_digests(config: Config, settings: Mapping[str, Any], output: Path) -> dict[str, str]:
    """Return the checksums for run.json: of the recipe and, if an adapter was trained, of its weights.

    Args:
        config: The configuration.
        settings: Settings that the weights depend on, from `train_step_inputs`.
        output: Folder of the trained weights.

    Raises:
        CheckpointError: The adapter in `output` is missing or damaged.
    """
    digests = {RECIPE_DIGEST: recipe_fingerprint(settings)}
    if not config.adapter.is_none:
        digests[ADAPTER_DIGEST] = adapter_config.fingerprint(output)
    return digests


def log_steps_done(checkpoints: Path) -> None:
    """Log how many of the forecast's steps an earlier session has done, by the newest checkpoint's name.

    Without checkpoints, nothing is logged.
    """
    if folders := checkpoint_folders(checkpoints):
        log.info(
            "plan: %s of these steps are done: training goes on at %s",
            folders[-1].name.rpartition("-")[2],
            folders[-1],
        )


def report_examples(run: Run, examples: Examples) -> dict[str, Any]:
    """Log and print a report on the training rows, with an example, and write the file of held-out rows.

    Returns:
        The value of `held_out` in train.json, from `write_rows`; empty except on rank 0.
    """
    config, training, validation = run.config, examples.training, examples.validation
    if config.data.validation_fraction != 0 and str(examples.hold_out):
        log.info("data: %s", examples.hold_out)
    for line in limits_of_comparison(config.data, bool(config.benchmarks)) if validation is not None else ():
        log.info("%s", line)
    if validation is not None and (validation.account.dropped or validation.account.num_cut):
        log.info("data: held out: %s", validation.account)
    if not is_rank0():
        return {}
    held_out = write_rows(examples.hold_out, run.run_dir)
    plain_console(soft_wrap=True).print(data_report(training, examples.rows, examples.tokenizer))
    return held_out


def check_adapter(run: Run) -> None:
    """Check the adapter section against the model's architecture and tokenizer, without loading weights.

    Raises:
        WorkbenchError: The adapter at `adapter.path` is missing or can't be trained further, or the model
            lacks a layer or token that the section names.
    """
    config, adapter = run.config, run.config.adapter
    if adapter.path is not None:
        stored = adapter_config.read_config(adapter.path)
        adapter_config.check_restorable(stored, adapter.path, trainable=True)
    elif not adapter.is_none:
        if adapter.trainable_tokens:
            token_ids(run.tokenizer, adapter.trainable_tokens, "adapter.trainable_tokens")
        is_plain = adapter.method in LORA_METHODS and not adapter.options
        is_everywhere = adapter.target_modules == [ALL_LINEAR] and not adapter.modules_to_save
        if not (is_plain and is_everywhere and not adapter.rank_pattern):
            empty_model = outline(config.model)
            attach.check_attachable(empty_model, adapter)
            check_saved(empty_model, adapter, config.quantization)


def score_on_benchmarks(run: Run) -> dict[str, PreparedBenchmark]:
    """Return the benchmarks of `train.score_on` by name, with their items; empty if the key is not set.

    A benchmark for tasks of lm-eval can give several, each under a name of its own.

    Raises:
        WorkbenchError: A name is not a benchmark of this run or is named twice, a benchmark can't be read, or
            their scores have no mean, see `check_mean`.
    """
    config, names = run.config, run.config.train.score_on or []
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"train.score_on: {repeated[0]!r} is named twice (name it once)")
    for name in names:
        if name not in config.benchmarks:
            known = ", ".join(config.benchmarks) or "none"
            raise ConfigError(f"train.score_on: {name!r} is not a benchmark of this run (benchmark={known})")
    scored = run.benchmarks(names)
    check_mean({name: benchmark.interviewer.main_metric(benchmark) for name, benchmark in scored.items()})
    return scored


def check_mean(metrics: Mapping[str, str], of_losses: Collection[str] | None = None) -> None:
    """Check that a higher mean of the benchmarks' scores means a better model.

    Args:
        metrics: Benchmark -> its main metric.
        of_losses: Benchmarks with a metric for which lower is better; None: by the metrics' names.

    Raises:
        ConfigError: A metric for which lower is better is averaged with another metric.
    """
    first = next(iter(metrics), "")
    if of_losses is None:
        of_losses = [name for name, metric in metrics.items() if lower_is_better(metric)]
    for name, metric in metrics.items():
        is_loss = name in of_losses
        if is_loss != (first in of_losses) or (is_loss and metric != metrics[first]):
            raise ConfigError(
                f"train.score_on: the mean of {first!r} ({metrics[first]}) and {name!r} ({metric}) does not "
                "tell which model is better (name benchmarks of one metric, or where more is better)"
            )


def train_step_inputs(config: Config, scored: Mapping[str, PreparedBenchmark]) -> dict[str, Any]:
    """Return `training_inputs`, with fingerprints of the benchmarks `scored` if these choose a checkpoint."""
    if not config.train.chooses or not scored:
        return training_inputs(config)
    benchmarks = [scoring_fingerprint({}, benchmark, config) for benchmark in scored.values()]
    return training_inputs(config) | {"score_on": benchmarks}


def mean_scorer(
    config: Config, tokenizer: PreTrainedTokenizerBase, scored: Mapping[str, PreparedBenchmark]
) -> Score:
    """Return a function that scores a model on the benchmarks `scored`, those of `train.score_on`.

    Its result has each benchmark's main score as `score/NAME` and, as `score`, their mean. The mean is
    negated for metrics for which lower is better, such as perplexity. It raises a ConfigError as `check_mean`
    does.
    """

    def score(model: PreTrainedModel | PeftModel) -> dict[str, float]:
        inner = attach.inner_model(model) if isinstance(model, PeftModel) else model
        evaluation = engine.evaluate(
            inner, tokenizer, scored, config.evaluate, model_name="training", decoding=prepacked
        )
        main_scores = {score.benchmark: score for score in reversed(evaluation.scores)}  # of the first metric
        check_each_left(scored, main_scores, config.evaluate)
        metrics = {name: main_scores[name].metric for name in scored}  # lm-eval's are known only now
        check_mean(metrics, {name for name in scored if main_scores[name].lower_is_better})
        mean = math.fsum(main_scores[name].value for name in scored) / len(scored)
        sign = -1 if main_scores[next(iter(scored))].lower_is_better else 1
        return {"score": sign * mean, **{f"score/{name}": main_scores[name].value for name in scored}}

    return score
