"""Checks that the benchmarks of a run are for its model, tokenizer and context."""

from collections.abc import Mapping
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from workbench.config import Step
from workbench.config.benchmark import OutputType, Scoring
from workbench.config.evaluate import uses_chat_template
from workbench.config.names import BASE
from workbench.errors import ConfigError
from workbench.evaluation.inference.prompt_encoder import PromptEncoder
from workbench.evaluation.model_checks import check_prompting, naming_benchmark
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.tasks.chat_generation import check_written
from workbench.evaluation.tasks.multiple_choice import vocabulary_entry
from workbench.evaluation.too_long_items import (
    check_lengths,
    check_some_left,
    skipped_items,
    warn_of_none_left,
)
from workbench.pipeline.held_out.encoded_rows import context_length, model_length
from workbench.pipeline.held_out.rows_file import read_rows
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import asks_by_chat, is_classifier
from workbench.pipeline.tokenizers import tokenizer_for


def check_scoring(run: Run) -> None:
    """Check that the run has benchmarks, held-out rows or a train step, and that benchmarks fit its model.

    Raises:
        ConfigError: There is none of these, or a benchmark is for other models.
        WorkbenchError: As for `check_prompts`.
    """
    config = run.config
    if not config.benchmarks and Step.train not in config.steps and not read_rows(run.run_dir):
        raise ConfigError(
            "benchmark: none chosen, and the run has no held-out rows (as in 'benchmark=[cmmlu,hellaswag]')"
        )
    check_benchmarks_fit(run)


def check_benchmarks_fit(run: Run) -> None:
    """Check that all benchmarks of the run fit its model, vocabulary and context.

    Raises:
        WorkbenchError: As for `check_questions` and `check_prompts`.
    """
    check_questions(run.benchmarks(), run)
    check_prompts(run.benchmarks(), run)


def check_questions(benchmarks: Mapping[str, PreparedBenchmark], run: Run) -> None:
    """Check that the benchmarks are for this kind of model, and that its vocabulary has the scored tokens.

    Raises:
        ConfigError: A benchmark needs another kind of model or another vocabulary.
    """
    if asks_by_chat(run.config):
        check_written({name: benchmark.config for name, benchmark in benchmarks.items()})
    for name, benchmark in benchmarks.items():
        if (benchmark.config.output_type is OutputType.classification) is not is_classifier(run.config):
            kind, task = benchmark.config.output_type.name, run.config.model.task.name
            raise ConfigError(
                f"benchmarks.{name}: output_type {kind!r} is not for model.task={task} (a classifier can be "
                "evaluated on benchmarks of classification, a causal model on all others)"
            )
        if benchmark.config.scoring is Scoring["next-piece"]:
            tokenizer = run.tokenizer
            with naming_benchmark(name):
                for text in benchmark.examples[0].continuations:
                    vocabulary_entry(text, tokenizer, benchmark.config)


def check_prompts(benchmarks: Mapping[str, PreparedBenchmark], run: Run) -> None:
    """Check that the tokenizer can make the prompts, and that they and `evaluate.max_length` fit the context.

    Raises:
        WorkbenchError: The tokenizer or the length is unsuitable; the message names the key, or the
            benchmark and the item.
    """
    if asks_by_chat(run.config):
        return
    evaluate = run.config.evaluate
    is_here = run.config.model.endpoint is None  # an endpoint's context is known when it is asked
    in_chat = uses_chat_template(evaluate, (benchmark.config for benchmark in benchmarks.values()))
    if not (benchmarks and is_here) and evaluate.max_length is None and not in_chat:
        return
    tokenizer = tokenizer_for(BASE, run)
    if Step.train in run.config.steps and not tokenizer.chat_template:
        # training adds one
        evaluate = replace(evaluate, chat_template=False, template_arguments={})
        benchmarks = {
            name: replace(benchmark, config=replace(benchmark.config, chat_template=False))
            for name, benchmark in benchmarks.items()
        }
    length = model_length(run, tokenizer)
    check_prompting(length, tokenizer, benchmarks, evaluate)
    if is_here:
        check_lengths(length, tokenizer, benchmarks, evaluate, run.config.train.score_on or ())


def answerable(
    benchmarks: Mapping[str, PreparedBenchmark], run: Run, tokenizer: PreTrainedTokenizerBase
) -> dict[str, PreparedBenchmark]:
    """Return copies of the benchmarks without the items that `evaluate.too_long` leaves out of scores.

    The model answers each item that is left, so that two models' answers can be paired. A benchmark of which
    no item is left is logged and left out.

    Args:
        benchmarks: Name -> prepared benchmark.
        run: The run of the model.
        tokenizer: The model's tokenizer.

    Raises:
        DataError: No item of any benchmark is left.
    """
    left_out = skipped_ids(benchmarks, run, tokenizer)
    answered = {}
    for name, benchmark in benchmarks.items():
        examples = [example for example in benchmark.examples if example.id not in left_out[name]]
        if examples:
            answered[name] = replace(benchmark, examples=examples)
        else:
            warn_of_none_left(name, len(benchmark.examples), context_length(run, tokenizer))
    if benchmarks and not answered:
        with naming_benchmark(next(iter(benchmarks))):
            check_some_left(0, run.config.evaluate)
    return answered


def skipped_ids(
    benchmarks: Mapping[str, PreparedBenchmark], run: Run, tokenizer: PreTrainedTokenizerBase
) -> dict[str, set[str]]:
    """Return benchmark -> ids of the items that `evaluate.too_long` leaves out of a model's scores.

    `tokenizer` is that of the model, and `run` decides its context.
    """
    encoder = PromptEncoder(tokenizer, context_length(run, tokenizer))
    return {
        name: set(skipped_items(benchmark, encoder, run.config.evaluate))
        for name, benchmark in benchmarks.items()
    }
