"""Selects the wrapper of a model and the answerer that a benchmark needs."""

from collections.abc import Iterable

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig, OutputType, Scoring
from workbench.config.evaluate import EvaluateConfig
from workbench.config.serving.endpoint import EndpointApi
from workbench.errors import ConfigError
from workbench.evaluation.endpoint.chat_endpoint import ChatEndpoint
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.classifier import TransformersClassifier
from workbench.evaluation.inference.language_model import LanguageModel
from workbench.evaluation.tasks.answerer import Answerer
from workbench.evaluation.tasks.chat_generation import ChatGeneration
from workbench.evaluation.tasks.classification import Classification
from workbench.evaluation.tasks.generation import Generation
from workbench.evaluation.tasks.multiple_choice import MultipleChoice
from workbench.evaluation.tasks.perplexity import Perplexity
from workbench.evaluation.tasks.tokenized_rows import AnswerLoss

Model = LanguageModel | TransformersClassifier | ChatEndpoint


def in_role(
    model: PreTrainedModel | EndpointModel,
    tokenizer: PreTrainedTokenizerBase | None,
    benchmarks: Iterable[BenchmarkConfig],
    config: EvaluateConfig,
) -> Model:
    """Wrap the model as the causal model or the classifier that the benchmarks need.

    Raises:
        ConfigError: Some benchmarks need a classification head and some a causal model, or an endpoint is
            asked for a classification head.
    """
    heads = {benchmark.output_type == OutputType.classification for benchmark in benchmarks}
    if len(heads) > 1:
        raise ConfigError(
            "benchmarks: some need a classification head and some a causal model (run these separately)"
        )
    if isinstance(model, EndpointModel):
        if True in heads:
            raise ConfigError(
                "benchmarks: an endpoint has no classification head (a causal model's benchmarks)"
            )
        if model.settings.api is EndpointApi["chat"]:
            return ChatEndpoint(model)
        assert tokenizer is not None
        return EndpointLM(model, tokenizer, config)
    assert tokenizer is not None
    return (TransformersClassifier if True in heads else TransformersLM)(model, tokenizer, config)


def answerer_for(lm: Model, benchmark: BenchmarkConfig, config: EvaluateConfig) -> Answerer:
    """Return the object that turns examples into items and answers them, by the benchmark's output type."""
    if isinstance(lm, ChatEndpoint):
        return ChatGeneration(lm, benchmark, config)
    if isinstance(lm, TransformersClassifier):
        return Classification(lm, benchmark, config)
    if benchmark.output_type == OutputType.generation:
        return Generation(lm, benchmark, config)
    if benchmark.output_type == OutputType.answer_loss:
        return AnswerLoss(lm)
    if benchmark.output_type == OutputType.perplexity:
        return Perplexity(lm, as_harness=benchmark.scoring == Scoring.rolling)
    return MultipleChoice(lm, benchmark, config)
