"""Checks of a run's configuration, data and benchmarks before the long work starts."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from workbench.config import Config, Step
from workbench.config.benchmark import OutputType, Scoring
from workbench.config.quantization import QuantizationMethod
from workbench.config.train import Keep
from workbench.data.holdout import hold_out
from workbench.data.rows import Row, load_rows
from workbench.data.streaming import streamed_rows
from workbench.data.validate import check_rows
from workbench.distributed import is_sharded
from workbench.errors import ConfigError
from workbench.evaluation.model_checks import check_prompting, named
from workbench.evaluation.prepare_benchmarks import check_benchmarks
from workbench.evaluation.records import PreparedBenchmark
from workbench.evaluation.tasks.multiple_choice import vocabulary_entry
from workbench.models.adapters.init_from_weights import FROM_WEIGHTS
from workbench.models.adapters.targets import check_base
from workbench.models.loading import check_model, load_tokenizer
from workbench.pipeline.held_out import context_length, read_rows
from workbench.pipeline.predict_input import questions
from workbench.pipeline.step_inputs import is_classifier, named_data, trains_whole_model
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.pipeline.train import check_adapter, scored_on
from workbench.pipeline.vocabulary import check_text
from workbench.run_dir import RunDir
from workbench.training.arguments import check_loggers

LOOKED_AT = 1000
"""Of rows that are streamed, so many are read before the work starts, and all others on the way."""


def check(config: Config, run_dir: RunDir) -> None:
    """Find a user's mistake before the long work starts.

    Raises:
        WorkbenchError: a model, data set or benchmark that can't be read, a step that makes no sense, ...
    """
    if set(config.steps) - {Step.leaderboard, Step.tokenizer}:
        check_model(config.model, config.quantization)
    if Step.evaluate in config.steps:
        if not config.benchmarks and Step.train not in config.steps and not read_rows(run_dir):
            raise ConfigError(
                "benchmark: none chosen, and the run has no held-out rows "
                "(as in 'benchmark=[cmmlu,hellaswag]')"
            )
        benchmarks = check_benchmarks(config.benchmarks, config.evaluate)
        check_questions(benchmarks, config)
        check_prompts(benchmarks, config, run_dir)
    if {Step.tokenizer, Step.extend} & set(config.steps):
        check_text(config)
    if Step.predict in config.steps:
        questions(config, run_dir)
    if {Step.plan, Step.train, Step.resume_check} & set(config.steps):
        check_training(config)


def check_questions(benchmarks: Mapping[str, PreparedBenchmark], config: Config) -> None:
    """Find a benchmark for another kind of model, or that scores entries which the vocabulary lacks.

    Raises:
        ConfigError: names the benchmark.
    """
    for name, benchmark in benchmarks.items():
        if (benchmark.config.output_type is OutputType.classification) is not is_classifier(config):
            kind, task = benchmark.config.output_type.name, config.model.task.name
            raise ConfigError(
                f"benchmarks.{name}: {kind!r} questions are not for model.task={task} (a classification head "
                "answers benchmarks of classification, and a causal model all others)"
            )
        if benchmark.config.scoring is Scoring["next-piece"]:
            tokenizer = load_tokenizer(config.model)
            with named(name):
                for text in benchmark.examples[0].continuations:
                    vocabulary_entry(text, tokenizer, benchmark.config)


def check_prompts(benchmarks: Mapping[str, PreparedBenchmark], config: Config, run_dir: RunDir) -> None:
    """Find prompts that the model's tokenizer can't make or its context can't hold, before it is loaded.

    Raises:
        WorkbenchError: names the key, or the benchmark and the item.
    """
    evaluate = config.evaluate
    if evaluate.max_length is None and not evaluate.chat_template:
        return
    tokenizer = tokenizer_for("base", config, run_dir)
    if Step.train in config.steps and not tokenizer.chat_template:
        evaluate = replace(evaluate, chat_template=False)  # training brings one
    any_length = replace(config, evaluate=replace(evaluate, max_length=None))
    check_prompting(context_length(any_length, tokenizer), tokenizer, benchmarks, evaluate)


def check_choosing(config: Config, rows: list[Row]) -> None:
    """Refuse to choose among checkpoints by a validation loss where no row will be held out.

    Raises:
        ConfigError: `train.keep` or `train.patience` asks for it.
    """
    share = config.data.validation_fraction
    if not config.train.chooses or config.train.score_on or share:
        return
    reason = "data.validation_fraction is 0"
    if share is None:
        found = None if config.data.streaming else hold_out(rows, config.data, config.model.task)
        if found is not None and found.held_out:
            return
        reason = found.reason if found is not None else "rows are streamed"
    key = "keep" if config.train.keep is Keep.best else "patience"
    raise ConfigError(
        f"train.{key}: nothing is validated that would tell, {reason} "
        "(data.validation_fraction=0.05, or train.score_on)"
    )


def check_training(config: Config) -> None:
    """Find a mistake in what is to be trained, on what, and how the best checkpoint is told.

    Raises:
        WorkbenchError: as `check` says.
    """
    check_questions(scored_on(config), config)
    check_loggers(config.train.report_to)
    check_adapter(config)
    if config.adapter.init in FROM_WEIGHTS and config.train.weight_decay:
        raise ConfigError(
            f"train.weight_decay: {config.train.weight_decay} would shrink what takes the start of "
            f"adapter.init={config.adapter.init.name} out again (set it 0)"
        )
    if config.adapter.init in FROM_WEIGHTS and is_sharded():
        raise ConfigError(
            f"adapter.init: {config.adapter.init.name!r} does not go with FSDP, which tears its halves apart "
            "(adapter.init=default, or DDP)"
        )
    method = config.quantization.method
    if trains_whole_model(config) and method is not QuantizationMethod.none:
        raise ConfigError(
            f"adapter.method: 'none' trains the model's own weights, which can't be in {method.value} "
            "(adapter=lora, or quantization=none)"
        )
    if not trains_whole_model(config):
        check_base(config.model)
    streaming, data = config.data.streaming, named_data(config)
    if streaming and is_classifier(config) and not (data.labels or data.labels_file or data.regression):
        raise ConfigError("data.labels: not given, and data.streaming can't look for them in all rows")
    found = islice(streamed_rows(config.data, config.seed), LOOKED_AT) if streaming else None
    rows = list(found) if found is not None else load_rows(config.data, config.seed)
    check_rows(rows, data, config.model.task)
    check_choosing(config, rows)
