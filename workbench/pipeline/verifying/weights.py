"""Names why log-likelihoods differ: another model of the run, positions, quantization, weights."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from transformers import PreTrainedModel

from workbench.config import QuantizationConfig
from workbench.config.names import ADAPTER, BASE, MERGED
from workbench.config.quantization import QuantizationMethod
from workbench.contexts import evaluation_mode
from workbench.errors import WorkbenchError
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.language_model import LanguageModel
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.models.loading import load_model
from workbench.pipeline.audit.sample import Sample
from workbench.pipeline.run_models import loaded_models, model_in
from workbench.pipeline.run_state import Run
from workbench.pipeline.verifying.gaps import Gaps

NUM_TEXTS = 8
LONGEST = 64
"""Number and tokens of the recorded prompts that weights are compared on."""
NUM_PAIRS = 32
"""Texts of two tokens: the second one's log-probability doesn't depend on positions."""
NEARER = 0.3
"""Share of the scored model's distance below which another model is named as the cause."""
NEAR = 2
"""Factor on the scored model's distance from its base, within which a model is taken for one with another
adapter on that base."""
NOISE_NATS = 0.3
"""Mean difference up to which quantization or other arithmetic may be the cause. Measured: 0.09 for q8_0,
0.13 for bfloat16."""


def cause_of(
    run: Run,
    serves: str,
    lm: EndpointLM,
    drawn: Sample,
    gaps: Gaps,
    others: Mapping[str, Gaps],
    tolerance: float,
) -> str:
    """Return a line with the likely cause of differences; models of the run may be loaded to find it.

    Args:
        run: The run.
        serves: Name of the run's model that the endpoint should have.
        lm: The endpoint.
        drawn: The items that were asked.
        gaps: The endpoint's differences from that model's recorded answers.
        others: Other models of the run -> the endpoint's differences from their recorded answers.
        tolerance: Difference, in nats, that rounding explains.
    """
    num_same = gaps.num_items - gaps.num_other_answers
    picks = f"{num_same} of {gaps.num_items} answers are the same, which proves nothing"
    for name, other in others.items():
        if other.num_likelihoods and other.mean <= max(NEARER * gaps.mean, tolerance) < gaps.mean:
            return f"other model: the endpoint has the run's {name}, and not its {serves} ({picks})"
        if gaps.num_other_texts and other.num_texts and not other.num_other_texts:
            return f"other model: the endpoint writes the texts of the run's {name}, and not its {serves}"
    if not gaps.num_likelihoods:
        return (
            f"texts: {gaps.num_other_texts} of {gaps.num_texts} greedy texts differ, as by other weights, a "
            "quantization or rounding (log-likelihoods, which would tell, are not compared)"
        )
    return _cause_in_weights(run, serves, lm, _texts(lm, drawn), gaps, tolerance) + f" ({picks})"


def _cause_in_weights(
    run: Run, serves: str, lm: EndpointLM, texts: Sequence[TokenRequest], gaps: Gaps, tolerance: float
) -> str:
    """Return the cause that comparisons with the run's weights show, in the order of their certainty."""
    asked, count = [*texts, *_pairs(lm)], len(texts)
    there, here = _values(lm, asked), _values_of(run, serves, lm, asked)
    apart = _distance(there[:count], here[:count])
    if _distance(there[count:], here[count:]) <= tolerance < apart:
        return (
            "positions: log-probabilities after one token are the same, and after more they differ: another "
            "rope, scaling or window in its configuration"
        )
    for method, values in _otherwise_held(run, serves, lm, texts):
        if _distance(there[:count], values) <= NEARER * apart:
            held = "full precision" if method == QuantizationMethod.none.value else method
            return f"quantization: the endpoint holds the model in {held}"
    if gaps.mean <= NOISE_NATS:
        return (
            f"quantization or arithmetic: {gaps.mean:.2g} nats in the mean, as of 16 bits, a quantized "
            "cache or a format such as q8_0, or of weights that are almost the same"
        )
    if serves in (ADAPTER, MERGED) and not run.config.model.init:
        base = _values_of(run, BASE, lm, texts)
        if _distance(there[:count], base) < NEAR * _distance(here[:count], base):
            return f"other adapter: neither the run's {serves} nor its base, but near both"
    return f"other weights: the endpoint has another model than the run's {serves}"


def _texts(lm: EndpointLM, drawn: Sample) -> list[TokenRequest]:
    contexts = [answer.context for answers in drawn.recorded.values() for answer in answers][:NUM_TEXTS]
    encoded = [tokens[-LONGEST:] for tokens in lm.encode(contexts)]
    return [TokenRequest(tuple(tokens), 1) for tokens in encoded if len(tokens) > 1]


def _pairs(lm: EndpointLM) -> list[TokenRequest]:
    tokens = random.Random(0).choices(range(lm.vocabulary), k=2 * NUM_PAIRS)
    return [TokenRequest(pair, 1) for pair in zip(tokens[::2], tokens[1::2], strict=True)]


def _wrapped(run: Run, model: PreTrainedModel, lm: EndpointLM) -> TransformersLM:
    with evaluation_mode(model):
        return TransformersLM(model, lm.tokenizer, run.config.evaluate)


def _values(lm: LanguageModel, requests: Sequence[TokenRequest]) -> list[float]:
    """Return the log-likelihood of each request, in nats."""
    with evaluation_mode(lm.model):
        return [likelihood.loglikelihood for likelihood in lm.loglikelihoods(requests)]


def _values_of(run: Run, name: str, lm: EndpointLM, requests: Sequence[TokenRequest]) -> list[float]:
    """Return the log-likelihood of each request by a model of the run, which is loaded for it."""
    values: list[float] = []
    for _, model in loaded_models(run, [name]):
        values = _values(_wrapped(run, model, lm), requests)
    return values


def _distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the mean absolute difference."""
    return sum(abs(a - b) for a, b in zip(first, second, strict=True)) / max(len(first), 1)


def _otherwise_held(
    run: Run, serves: str, lm: EndpointLM, requests: Sequence[TokenRequest]
) -> Iterator[tuple[str, list[float]]]:
    """Yield each other quantization of the model that this machine can hold, and the requests' values."""
    config = run.config
    own = QuantizationMethod.none if serves == MERGED else config.quantization.method
    for method in (method for method in QuantizationMethod if method is not own):
        quantization = QuantizationConfig(method=method)
        try:
            if serves == MERGED:
                model = load_model(model_in(run.run_dir.merged, config.model), quantization)
                yield method.value, _values(_wrapped(run, model, lm), requests)
            else:
                other = Run(replace(config, quantization=quantization), run.run_dir)
                yield method.value, _values_of(other, serves, lm, requests)
        except WorkbenchError:
            continue  # not on this machine, or not this model
