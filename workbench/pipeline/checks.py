"""Checks of a run's configuration, data and benchmarks before the long work starts."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from workbench.config import Step
from workbench.config.benchmark import OutputType, Scoring
from workbench.config.names import BASE
from workbench.config.quantization import QuantizationMethod
from workbench.config.train import Keep
from workbench.data.streaming import streamed_rows
from workbench.data.validate import check_rows
from workbench.distributed import is_sharded
from workbench.errors import ConfigError
from workbench.evaluation.model_checks import check_prompting, named
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.tasks.multiple_choice import vocabulary_entry
from workbench.models.adapters.init_from_weights import FROM_WEIGHTS
from workbench.models.adapters.targets import check_base
from workbench.models.loading import check_model
from workbench.pipeline.held_out.encoded_rows import model_length
from workbench.pipeline.held_out.rows_file import read_rows
from workbench.pipeline.predict.predict_input import questions
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier, trains_whole_model
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.pipeline.train import check_adapter, scored_on
from workbench.pipeline.vocabulary import check_text
from workbench.training.arguments import check_loggers

LOOKED_AT = 1000
"""Of rows that are streamed, so many are read before the work starts, and all others on the way."""


def check(run: Run) -> None:
    """Find a user's mistake before the long work starts.

    Raises:
        WorkbenchError: a model, data set or benchmark that can't be read, a step that makes no sense, ...
    """
    config = run.config
    if set(config.steps) - {Step.leaderboard, Step.tokenizer}:
        check_model(config.model, config.quantization)
    if Step.evaluate in config.steps:
        if not config.benchmarks and Step.train not in config.steps and not read_rows(run.run_dir):
            raise ConfigError(
                "benchmark: none chosen, and the run has no held-out rows "
                "(as in 'benchmark=[cmmlu,hellaswag]')"
            )
        check_questions(run.benchmarks(), run)
        check_prompts(run.benchmarks(), run)
    if {Step.tokenizer, Step.extend} & set(config.steps):
        check_text(run)
    if Step.predict in config.steps:
        questions(run)
    if {Step.plan, Step.train, Step.resume_check} & set(config.steps):
        check_training(run)


def check_questions(benchmarks: Mapping[str, PreparedBenchmark], run: Run) -> None:
    """Find a benchmark for another kind of model, or that scores entries which the vocabulary lacks.

    Raises:
        ConfigError: names the benchmark.
    """
    for name, benchmark in benchmarks.items():
        if (benchmark.config.output_type is OutputType.classification) is not is_classifier(run.config):
            kind, task = benchmark.config.output_type.name, run.config.model.task.name
            raise ConfigError(
                f"benchmarks.{name}: {kind!r} questions are not for model.task={task} (a classification head "
                "answers benchmarks of classification, and a causal model all others)"
            )
        if benchmark.config.scoring is Scoring["next-piece"]:
            tokenizer = run.tokenizer
            with named(name):
                for text in benchmark.examples[0].continuations:
                    vocabulary_entry(text, tokenizer, benchmark.config)


def check_prompts(benchmarks: Mapping[str, PreparedBenchmark], run: Run) -> None:
    """Find prompts that the model's tokenizer can't make or its context can't hold, before it is loaded.

    Raises:
        WorkbenchError: names the key, or the benchmark and the item.
    """
    evaluate = run.config.evaluate
    if evaluate.max_length is None and not evaluate.chat_template:
        return
    tokenizer = tokenizer_for(BASE, run)
    if Step.train in run.config.steps and not tokenizer.chat_template:
        evaluate = replace(evaluate, chat_template=False)  # training brings one
    check_prompting(model_length(run, tokenizer), tokenizer, benchmarks, evaluate)


def check_choosing(run: Run) -> None:
    """Refuse to choose among checkpoints by a validation loss where no row will be held out.

    Raises:
        ConfigError: `train.keep` or `train.patience` asks for it.
    """
    config = run.config
    share = config.data.validation_fraction
    if not config.train.chooses or config.train.score_on or share:
        return
    reason = "data.validation_fraction is 0"
    if share is None:
        found = None if config.data.streaming else run.hold_out
        if found is not None and found.held_out:
            return
        reason = found.reason if found is not None else "rows are streamed"
    key = "keep" if config.train.keep is Keep.best else "patience"
    raise ConfigError(
        f"train.{key}: nothing is validated that would tell, {reason} "
        "(data.validation_fraction=0.05, or train.score_on)"
    )


def check_training(run: Run) -> None:
    """Find a mistake in what is to be trained, on what, and how the best checkpoint is told.

    Raises:
        WorkbenchError: as `check` says.
    """
    config = run.config
    check_questions(scored_on(run), run)
    check_loggers(config.train.report_to)
    check_adapter(run)
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
    streaming, data = config.data.streaming, run.data
    if streaming and is_classifier(config) and not (data.labels or data.labels_file or data.regression):
        raise ConfigError("data.labels: not given, and data.streaming can't look for them in all rows")
    looked_at = list(islice(streamed_rows(config.data, config.seed), LOOKED_AT)) if streaming else run.rows
    check_rows(looked_at, data, config.model.task)
    check_choosing(run)
