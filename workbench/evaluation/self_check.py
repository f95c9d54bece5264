"""Scores a sample of items again one by one, without sharing, batching or keeping anything."""

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
    """What scoring one by one changed."""

    num_items: int
    largest_difference: float
    """Of a log-likelihood, in nats."""
    num_changed: int
    """Items whose likeliest choice or generated text is another one."""
    num_wrong: int
    """Items whose log-likelihoods differ by more than rounding explains, or whose text is another one."""


def one_by_one(config: EvaluateConfig) -> EvaluateConfig:
    """The same settings, but every prompt goes through the model alone and from its first token on."""
    return replace(config, shared_prefix=False, batch_tokens=1, invariant=False)


def verify(
    alone: Answerer, items: Sequence[Item], answers: Sequence[Answer], count: int, rounding: float
) -> Verification:
    """Compare answers with those that `alone` gives to `count` of the items, chosen by their ids.

    Args:
        alone: scores one by one.
        items: all items.
        answers: to be compared, one an item.
        count: items that are asked again.
        rounding: nats by which the log-likelihood of a token may differ for rounding alone.
    """
    order = sorted(range(len(items)), key=lambda i: hashlib.sha256(items[i].example.id.encode()).digest())
    chosen = sorted(order[:count])
    again = dict(alone.answers([items[i] for i in chosen]))
    pairs = [(answers[i], again[number]) for number, i in enumerate(chosen)]
    differences = [
        abs(a - b)
        for x, y in pairs
        for a, b in zip(x.loglikelihoods, y.loglikelihoods, strict=False)
        if a != b
    ]
    return Verification(
        num_items=len(chosen),
        largest_difference=max(differences, default=0.0),
        num_changed=sum(_shown(x) != _shown(y) for x, y in pairs),
        num_wrong=sum(_is_wrong(x, y, rounding) for x, y in pairs),
    )


def _is_wrong(answer: Answer, again: Answer, rounding: float) -> bool:
    """Whether two answers differ by more than rounding; its errors add up like a random walk over tokens."""
    if answer.generation is not None or again.generation is not None:
        return answer.generation != again.generation
    if len(answer.loglikelihoods) != len(again.loglikelihoods):
        return True
    tokens = again.num_tokens or (1,) * len(again.loglikelihoods)
    return any(
        abs(a - b) > rounding * math.sqrt(max(1, count))
        for a, b, count in zip(answer.loglikelihoods, again.loglikelihoods, tokens, strict=True)
        if a != b
    )


def _shown(answer: Answer) -> int | str | None:
    if answer.generation is not None or not answer.loglikelihoods:
        return answer.generation
    return answer.loglikelihoods.index(max(answer.loglikelihoods))
