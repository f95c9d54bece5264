"""Checks a model before it is evaluated, and puts the benchmark's name into errors."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.data.templating.render import unused_argument
from workbench.errors import ConfigError, DataError
from workbench.evaluation.endpoint.chat_endpoint import ChatEndpoint
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.inference.classifier import TransformersClassifier
from workbench.evaluation.inference.encoding import context_length as context_length_of
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.tasks.chat_generation import check_written
from workbench.evaluation.tasks.requests import chat_format
from workbench.evaluation.tasks.select_answerer import Model


def check(
    lm: Model, benchmarks: Mapping[str, PreparedBenchmark], config: EvaluateConfig, model_name: str
) -> None:
    """Check that the model can be asked all benchmarks; a short text is scored to see its logits.

    Raises:
        CheckpointError: The model's logits are NaN.
        ConfigError: `max_length` is larger than the model's context, a chat template is missing, or it
            does not use an argument of `template_arguments`.
        DataError: A question is too long for the model, or the chat template refuses the turns.
    """
    if isinstance(lm, ChatEndpoint):
        check_written({name: benchmark.config for name, benchmark in benchmarks.items()})
        return
    check_prompting(context_length_of(lm.model, lm.tokenizer), lm.tokenizer, benchmarks, config)
    if not _has_finite_logits(lm):
        raise not_numbers(model_name)
    for benchmark in benchmarks.values():
        benchmark.interviewer.check(benchmark, lm, config)


def check_kind(model: PreTrainedModel, benchmarks: Mapping[str, BenchmarkConfig]) -> None:
    """Check that the model has the head that the benchmarks need: for classification, or for the next token.

    Raises:
        ConfigError: The head is missing or the wrong one, or the model has an encoder; the message names the
            model's class and, for a wrong head, the benchmark.
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
    context_length: int,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Mapping[str, PreparedBenchmark],
    config: EvaluateConfig,
) -> None:
    """Check that the tokenizer and the context of a model fit the prompts, without the model's weights.

    Args:
        context_length: number of tokens that the model can read.
        tokenizer: tokenizer of the model.
        benchmarks: name -> prepared benchmark; the first item of each is rendered.
        config: settings of the evaluation.

    Raises:
        ConfigError: `max_length` is larger than the model's context, a chat template is missing, or it
            does not use an argument of `template_arguments`.
        DataError: The chat template refuses the turns, such as a system message.
    """
    if config.max_length is not None and config.max_length > context_length:
        raise ConfigError(
            f"evaluate.max_length: {config.max_length} tokens are more than the model's context "
            f"({context_length} tokens at most)"
        )
    formats = {name: chat_format(tokenizer, asked.config, config) for name, asked in benchmarks.items()}
    chats = {name: chat for name, chat in formats.items() if chat is not None}
    if not chats and not config.chat_template:
        return
    if not tokenizer.chat_template:
        section = "evaluate" if config.chat_template else f"benchmarks.{next(iter(chats))}"
        raise ConfigError(
            f"{section}.chat_template: the model's tokenizer has no chat template "
            "(set it to false, or name another tokenizer in model.tokenizer)"
        )
    if unused := unused_argument(config.template_arguments, str(tokenizer.get_chat_template())):
        raise ConfigError(f"evaluate.template_arguments.{unused} (leave it out)")
    for name, chat in chats.items():
        benchmarks[name].interviewer.check_chat(benchmarks[name], chat)


@contextmanager
def naming_benchmark(benchmark: str) -> Iterator[None]:
    """In the `with` block, put the benchmark's name before the messages of DataErrors and ConfigErrors.

    The prefix is `benchmarks.NAME: ` for a DataError, and `benchmarks.NAME.` for a ConfigError.
    """
    try:
        yield
    except DataError as error:
        raise DataError(f"benchmarks.{benchmark}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"benchmarks.{benchmark}.{error}") from error


def _has_finite_logits(lm: Model) -> bool:
    """Return whether the log-probability of a short text is not NaN."""
    if isinstance(lm, EndpointLM | ChatEndpoint):
        return True  # its replies are checked one by one
    if isinstance(lm, TransformersClassifier):
        [(_, values)] = lm.stream(["a"])
        return not any(map(math.isnan, values))
    [likelihood] = lm.loglikelihoods([TokenRequest((lm.start_token, lm.start_token), 1)])
    return not math.isnan(likelihood.loglikelihood)
