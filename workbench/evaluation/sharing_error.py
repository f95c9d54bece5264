"""Items scored once more, only to measure: how far sharing moves an answer, and what `invariant` costs."""

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
"""Items that are scored again without `invariant`, to say what it cost."""
log = logging.getLogger("workbench")


def verified(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: BenchmarkConfig,
    config: EvaluateConfig,
    asked: Sequence[Asked],
) -> dict[str, float]:
    """The largest difference that scoring `evaluate.verify` items one by one makes; said in the log, too."""
    if not config.verify or not asked:
        return {}
    alone = in_role(model, tokenizer, [benchmark], one_by_one(config))
    items = [question.items[0] for question in asked]
    answers = [question.answers[0] for question in asked]
    rounding, share = allowance(model)
    found = verify(answerer_for(alone, benchmark, config), items, answers, config.verify, rounding)
    log.info(
        "verify: %d items scored again one by one: largest difference %.2g nats, %d answers changed",
        found.num_items,
        found.largest_difference,
        found.num_changed,
    )
    is_text = any(answer.generation is not None for answer in answers)
    if found.num_wrong > (share * found.num_items if is_text else 0):
        how = "another text" if is_text else f"log-likelihoods that differ by up to {difference(found)} nats"
        raise DataError(
            f"evaluate.verify: {found.num_wrong} of {found.num_items} items have {how} when they are scored "
            "one by one, more than rounding explains; nothing of this benchmark is written (force=true asks "
            "all of it again)"
        )
    return {f"verify_{key}": value for key, value in asdict(found).items()}


def difference(found: Verification) -> str:
    """The largest difference, in short."""
    return f"{found.largest_difference:.2g}"


def allowance(model: PreTrainedModel) -> tuple[float, float]:
    """What rounding may change: nats of a token's log-likelihood, and the share of generated texts.

    Batches of other sizes are added up in other orders. In float32 that stays below 1e-3 nats; in 16 bits
    0.12 nats were seen, and a text goes its own way from the first near tie on. int8 on a GPU quantizes the
    activations, too, which moved log-likelihoods by up to 3 nats.
    """
    if getattr(model, "is_loaded_in_8bit", False) and model.device.type == "cuda":
        return 4.0, 1.0
    return (0.01, 0.0) if model.dtype == torch.float32 else (0.5, 0.5)


def invariant_cost(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: PreparedBenchmark,
    config: EvaluateConfig,
    asked: Sequence[Asked],
    seconds: float,
) -> dict[str, float]:
    """How many times as long as a sample without it an item took with `invariant`; said in the log, too.

    Args:
        model: the model.
        tokenizer: the model's.
        benchmark: what it was asked.
        config: how it was asked.
        asked: its questions.
        seconds: that an item took; 0 where none was asked.
    """
    if not config.invariant or not seconds or not asked:
        return {}
    plain = replace(config, invariant=False)
    faster = answerer_for(in_role(model, tokenizer, [benchmark.config], plain), benchmark.config, plain)
    sample = [question.items[0] for question in asked[:_COST_SAMPLE]]
    start = time.perf_counter()
    count = sum(1 for _ in faster.answers(sample))
    cost = seconds / ((time.perf_counter() - start) / count)
    log.info("invariant: an item of %s took %.1f times as long as without", benchmark.name, cost)
    return {"invariant_cost": cost}
