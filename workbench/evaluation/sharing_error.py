"""Scores items once more to measure the error of shared prefixes and the cost of `invariant`."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import DataError
from workbench.evaluation.prepared_benchmark import Asked, PreparedBenchmark
from workbench.evaluation.self_check import Verification, one_by_one, verify
from workbench.evaluation.tasks.select_answerer import answerer_for, in_role

_COST_SAMPLE = 32
"""Number of items that are scored again without `invariant`, to measure its cost."""
log = logging.getLogger("workbench")


def verified(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: BenchmarkConfig,
    config: EvaluateConfig,
    questions: Sequence[Asked],
) -> dict[str, float]:
    """Ask as many items again, one by one, as `evaluate.verify` says; log and return the differences.

    The keys are the fields of `Verification` with the prefix `verify_`. The result is empty if
    `evaluate.verify` is 0, or there are no questions that can be asked again.

    Raises:
        DataError: The answers differ by more than rounding explains (`allowance`).
        ConfigError: The model can't answer this benchmark, see `in_role`.
    """
    if not config.verify or not questions:
        return {}
    alone = in_role(model, tokenizer, [benchmark], one_by_one(config))
    items = [question.items[0] for question in questions]
    answers = [question.answers[0] for question in questions]
    rounding, share = allowance(model)
    result = verify(answerer_for(alone, benchmark, config), items, answers, config.verify, rounding)
    log.info(
        "verify: %d items scored again one by one: largest difference %.2g nats, %d answers changed",
        result.num_items,
        result.largest_difference,
        result.num_changed,
    )
    is_text = any(answer.generation is not None for answer in answers)
    if result.num_wrong > (share * result.num_items if is_text else 0):
        change = (
            "another text" if is_text else f"log-likelihoods that differ by up to {difference(result)} nats"
        )
        raise DataError(
            f"evaluate.verify: {result.num_wrong} of {result.num_items} items have {change} when they are "
            "scored one by one, more than rounding explains; no results of this benchmark are written "
            "(force=true asks all items again)"
        )
    return {f"verify_{key}": value for key, value in asdict(result).items()}


def difference(result: Verification) -> str:
    """Return, as text, the largest difference between the run's log-likelihoods and scoring one by one.

    It is in nats, with two significant digits and without the unit, as `0.012`.
    """
    return f"{result.largest_difference:.2g}"


def allowance(model: PreTrainedModel) -> tuple[float, float]:
    """Return the differences that rounding explains in this model's dtype.

    These are nats of a token's log-likelihood, and the share of generated texts that may change.

    The batch size changes the order of sums. In float32 the difference stays below 1e-3 nats; in 16 bits 0.12
    nats were measured, and a text changes completely after the first near tie. int8 on a GPU also quantizes
    the activations, which moved log-likelihoods by up to 3 nats.
    """
    if getattr(model, "is_loaded_in_8bit", False) and model.device.type == "cuda":
        return 4.0, 1.0
    return (0.01, 0.0) if model.dtype == torch.float32 else (0.5, 0.5)


def invariant_cost(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: PreparedBenchmark,
    config: EvaluateConfig,
    questions: Sequence[Asked],
    seconds: float,
) -> dict[str, float]:
    """Measure how many times as long an item takes with `invariant` as without; log and return the factor.

    For this, a few items are asked again without `invariant`. The result has the key `invariant_cost`; it is
    empty if `invariant` is off, or if no item was asked.

    Args:
        model: the model.
        tokenizer: tokenizer of the model.
        benchmark: the benchmark.
        config: settings of the evaluation.
        questions: questions of the benchmark, the first of which are asked again.
        seconds: time per item with `invariant`; 0 if no item was asked.

    Raises:
        ConfigError: The model can't answer this benchmark, see `in_role`.
    """
    if not config.invariant or not seconds or not questions:
        return {}
    plain = replace(config, invariant=False)
    answerer = answerer_for(in_role(model, tokenizer, [benchmark.config], plain), benchmark.config, plain)
    sample = [question.items[0] for question in questions[:_COST_SAMPLE]]
    start = time.perf_counter()
    count = sum(1 for _ in answerer.answers(sample))
    cost = seconds / ((time.perf_counter() - start) / count)
    log.info("invariant: an item of %s took %.1f times as long as without", benchmark.name, cost)
    return {"invariant_cost": cost}
