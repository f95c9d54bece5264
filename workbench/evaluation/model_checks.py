"""What is found out about a model before it is asked anything, and whose mistake an error is."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.inference.classifier import TransformersClassifier
from workbench.evaluation.inference.encoding import context_length
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.tasks.select_answerer import Model


def check(
    lm: Model, benchmarks: Mapping[str, PreparedBenchmark], config: EvaluateConfig, model_name: str
) -> None:
    """Find what can't be asked before anything is.

    Raises:
        CheckpointError: the model's logits are not numbers.
        ConfigError: longer prompts than the model holds are allowed, or a chat template is missing.
        DataError: a question alone is too long for the model, or its chat template refuses the turns.
    """
    check_prompting(context_length(lm.model, lm.tokenizer), lm.tokenizer, benchmarks, config)
    if not _gives_numbers(lm):
        raise not_numbers(model_name)
    for benchmark in benchmarks.values():
        benchmark.interviewer.check(benchmark, lm, config)


def check_kind(model: PreTrainedModel, benchmarks: Mapping[str, BenchmarkConfig]) -> None:
    """Refuse benchmarks that the model has no head for.

    Raises:
        ConfigError: Names the class of the model, and the benchmark.
    """
    kind = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(f"evaluate: {kind} has an encoder (a causal language model, or a classifier)")
    is_classifier = kind.endswith("ForSequenceClassification")
    if not is_classifier and cast(Any, model).get_output_embeddings() is None:
        raise ConfigError(f"evaluate: {kind} has no language modelling head (AutoModelForCausalLM)")
    for name, benchmark in benchmarks.items():
        if (benchmark.output_type is OutputType.classification) is not is_classifier:
            raise ConfigError(
                f"benchmarks.{name}: {benchmark.output_type.name!r} questions are not for {kind} (a "
                "classifier answers benchmarks of classification, and a causal model all others)"
            )


def check_prompting(
    held: int,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Mapping[str, PreparedBenchmark],
    config: EvaluateConfig,
) -> None:
    """Find what the model's tokenizer can't do with the prompts; this needs no weights.

    Args:
        held: tokens that the model can read.
        tokenizer: the model's.
        benchmarks: name -> prepared benchmark; the first item of each is rendered.
        config: how to score.

    Raises:
        ConfigError: longer prompts than the model holds are allowed, or a chat template is missing.
        DataError: the chat template refuses the turns, such as a system message.
    """
    if config.max_length is not None and config.max_length > held:
        raise ConfigError(f"evaluate.max_length: {config.max_length} (the model holds {held} tokens)")
    if not config.chat_template:
        return
    if not tokenizer.chat_template:
        raise ConfigError(
            "evaluate.chat_template: the model's tokenizer has none (false, or model.tokenizer)"
        )
    for benchmark in benchmarks.values():
        benchmark.interviewer.check_chat(benchmark, tokenizer)


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
