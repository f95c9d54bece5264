"""Checks of a run's configuration, data and benchmarks before the first step starts."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from workbench.config import Step
from workbench.config.adapter import AdapterBase
from workbench.config.benchmark import OutputType, Scoring
from workbench.config.names import BASE
from workbench.config.train import Keep
from workbench.data.streaming import streamed_rows
from workbench.data.validate import check_rows
from workbench.errors import ConfigError
from workbench.evaluation.model_checks import check_prompting, named
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.tasks.multiple_choice import vocabulary_entry
from workbench.models.adapters.provenance import check_base_of
from workbench.models.adapters.trainable import check_trainable
from workbench.models.loading import check_model, has_weights, outline
from workbench.models.tokenizers.load_tokenizer import has_tokenizer
from workbench.pipeline.held_out.encoded_rows import model_length
from workbench.pipeline.held_out.rows_file import read_rows
from workbench.pipeline.inspection.diagnose import open_folders
from workbench.pipeline.inspection.quantization_ways import check_report
from workbench.pipeline.plan.plan import has_rows
from workbench.pipeline.predict.predict_input import questions
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.pipeline.train import check_adapter, score_on_benchmarks
from workbench.pipeline.vocabulary import read_texts
from workbench.training.arguments import check_loggers

WITHOUT_MODEL = {
    *(Step.leaderboard, Step.compare, Step.tokenizer),
    *(Step.diagnose, Step.extract, Step.adapter_info, Step.push),
}
"""Steps that load no model, or only read tensors from its files."""
NUM_CHECKED = 1000
"""Number of streamed rows that are checked before the training; the others are checked when encoded."""


ASK_ADAPTER = {Step.train, Step.evaluate, Step.predict, Step.chat, Step.resume_check}
"""Steps that load the adapter at `adapter.path`; a merge checks more of its base."""


def check(run: Run) -> None:
    """Check everything that the run's steps need, as far as that is possible before the first step.

    Raises:
        WorkbenchError: A model, data set or benchmark can't be read, or the configuration contradicts itself.
    """
    config = run.config
    if {Step.diagnose, Step.extract} & set(config.steps):
        open_folders(run)
    if set(config.steps) - WITHOUT_MODEL:
        check_loadable(run)
    if config.adapter.path and set(config.steps) & ASK_ADAPTER:
        accepts = config.adapter.base is AdapterBase.accept
        check_base_of(config.adapter.path, config.model, None, "", accepts=accepts)
    if Step.evaluate in config.steps:
        if not config.benchmarks and Step.train not in config.steps and not read_rows(run.run_dir):
            raise ConfigError(
                "benchmark: none chosen, and the run has no held-out rows (as in "
                "'benchmark=[cmmlu,hellaswag]')"
            )
        check_questions(run.benchmarks(), run)
        check_prompts(run.benchmarks(), run)
    searches = Step.merge in config.steps and bool(config.merge.search)
    if Step.quantization_report in config.steps:
        check_report(run)
    if searches or Step.quantization_report in config.steps:
        check_questions(run.benchmarks(), run)
        check_prompts(run.benchmarks(), run)
    if {Step.tokenizer, Step.extend} & set(config.steps):
        read_texts(run)
    if Step.predict in config.steps:
        questions(run)
    if {Step.plan, Step.train, Step.resume_check} & set(config.steps):
        check_training(run)


def check_loadable(run: Run) -> None:
    """Check the model without reading weights; to plan, a config.json alone is enough.

    Raises:
        WorkbenchError: The model can't be loaded.
    """
    config = run.config
    if config.steps == [Step.plan] and not (has_weights(config.model) and has_tokenizer(config.model)):
        outline(config.model)
    else:
        check_model(config.model, config.quantization)


def check_questions(benchmarks: Mapping[str, PreparedBenchmark], run: Run) -> None:
    """Check that the benchmarks are for this kind of model, and that its vocabulary has the scored tokens.

    Raises:
        ConfigError: A benchmark needs another kind of model or another vocabulary.
    """
    for name, benchmark in benchmarks.items():
        if (benchmark.config.output_type is OutputType.classification) is not is_classifier(run.config):
            kind, task = benchmark.config.output_type.name, run.config.model.task.name
            raise ConfigError(
                f"benchmarks.{name}: output_type {kind!r} is not for model.task={task} (a classifier can be "
                "evaluated on benchmarks of classification, a causal model on all others)"
            )
        if benchmark.config.scoring is Scoring["next-piece"]:
            tokenizer = run.tokenizer
            with named(name):
                for text in benchmark.examples[0].continuations:
                    vocabulary_entry(text, tokenizer, benchmark.config)


def check_prompts(benchmarks: Mapping[str, PreparedBenchmark], run: Run) -> None:
    """Check that the tokenizer can make the prompts, and that `evaluate.max_length` fits the model's context.

    Raises:
        WorkbenchError: They don't; the message names the key, or the benchmark and the item.
    """
    evaluate = run.config.evaluate
    if evaluate.max_length is None and not evaluate.chat_template:
        return
    tokenizer = tokenizer_for(BASE, run)
    if Step.train in run.config.steps and not tokenizer.chat_template:
        evaluate = replace(evaluate, chat_template=False)  # training adds one
    check_prompting(model_length(run, tokenizer), tokenizer, benchmarks, evaluate)


def check_best_checkpoint(run: Run) -> None:
    """Check that there is a validation loss or a score by which `train.keep` and `train.patience` can choose.

    Raises:
        ConfigError: There is neither.
    """
    config = run.config
    fraction = config.data.validation_fraction
    if not config.train.chooses or config.train.score_on or fraction:
        return
    reason = "data.validation_fraction is 0"
    if fraction is None:
        split = None if config.data.streaming else run.hold_out
        if split is not None and split.held_out:
            return
        reason = split.reason if split is not None else "rows are streamed"
    key = "keep" if config.train.keep is Keep.best else "patience"
    raise ConfigError(
        f"train.{key}: no rows are held out to tell which checkpoint is best, because {reason} "
        "(data.validation_fraction=0.05, or train.score_on)"
    )


def check_training(run: Run) -> None:
    """Check the training's sections and rows.

    Raises:
        WorkbenchError: The sections contradict each other, or a row can't be read.
    """
    config = run.config
    check_questions(score_on_benchmarks(run), run)
    check_loggers(config.train.report_to)
    check_trainable(config.model, config.quantization, config.adapter, config.train)
    check_adapter(run)
    if config.steps == [Step.plan] and not has_rows(config):
        return
    streaming, data = config.data.streaming, run.data
    if streaming and is_classifier(config) and not (data.labels or data.labels_file or data.regression):
        raise ConfigError("data.labels: not given, and data.streaming can't collect classes from all rows")
    rows = list(islice(streamed_rows(config.data, config.seed), NUM_CHECKED)) if streaming else run.rows
    check_rows(rows, data, config.model.task)
    check_best_checkpoint(run)
