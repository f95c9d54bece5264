"""Scores a sample of items again one by one, without shared prefixes, batches or caches."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.records import Answer
from workbench.evaluation.tasks.answerer import Answerer
from workbench.evaluation.tasks.requests import Item


@dataclass(frozen=True)
class Verification:
    """Differences between the answers of a run and the answers of scoring one by one."""

    num_items: int
    largest_difference: float
    """Largest difference of a log-likelihood, in nats."""
    num_changed: int
    """Number of items whose most likely choice or generated text differs."""
    num_wrong: int
    """Number of items whose log-likelihoods differ by more than rounding, or whose text differs."""


def one_by_one(config: EvaluateConfig) -> EvaluateConfig:
    """Return settings with which the model computes each prompt alone, without batch and shared prefix."""
    return replace(config, shared_prefix=False, batch_tokens=1, invariant=False)


def verify(
    alone: Answerer, items: Sequence[Item], answers: Sequence[Answer], count: int, rounding: float
) -> Verification:
    """Ask `count` items again with `alone`, and compare the answers; ids decide which items.

    Args:
        alone: answerer that scores items one by one.
        items: all items.
        answers: answers to compare, one per item.
        count: number of items to ask again.
        rounding: difference of a token's log-likelihood that rounding explains, in nats.
    """
    order = sorted(range(len(items)), key=lambda i: hashlib.sha256(items[i].example.id.encode()).digest())
    sample = sorted(order[:count])
    separate_answers = dict(alone.answers([items[i] for i in sample]))
    pairs = [(answers[i], separate_answers[position]) for position, i in enumerate(sample)]
    differences = [
        abs(a - b)
        for answer, separate in pairs
        for a, b in zip(answer.loglikelihoods, separate.loglikelihoods, strict=False)
        if a != b
    ]
    return Verification(
        num_items=len(sample),
        largest_difference=max(differences, default=0.0),
        num_changed=sum(_result(answer) != _result(separate) for answer, separate in pairs),
        num_wrong=sum(_is_wrong(answer, separate, rounding) for answer, separate in pairs),
    )


def _is_wrong(answer: Answer, separate: Answer, rounding: float) -> bool:
    """Return whether two answers differ by more than rounding explains.

    A log-likelihood of n tokens may differ by `rounding` * sqrt(n) nats.
    """
    return answer.differs(separate, lambda num_tokens: rounding * math.sqrt(max(1, num_tokens)))


def _result(answer: Answer) -> int | str | None:
    """Return the generated text or the index of the most likely choice."""
    if answer.generation is not None or not answer.loglikelihoods:
        return answer.generation
    return answer.loglikelihoods.index(max(answer.loglikelihoods))
