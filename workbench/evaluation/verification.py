"""Scores a sample of items again one by one, without sharing, batching or keeping anything."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.items import Item
from workbench.evaluation.records import Answer, Example


class Answerer(Protocol):
    """A way to get answers from a model."""

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """The examples as the model is asked them."""

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each item, as soon as it is known."""


@dataclass(frozen=True)
class Verification:
    """What scoring one by one changed."""

    num_items: int
    largest_difference: float
    """Of a log-likelihood, in nats."""
    num_changed: int
    """Items whose likeliest choice or generated text is another one."""


def one_by_one(config: EvaluateConfig) -> EvaluateConfig:
    """The same settings, but every prompt goes through the model alone and from its first token on."""
    return replace(config, shared_prefix=False, batch_tokens=1, invariant=False)


def verify(alone: Answerer, items: Sequence[Item], answers: Sequence[Answer], count: int) -> Verification:
    """Compare answers with those that `alone` gives to `count` of the items, chosen by their ids."""
    order = sorted(range(len(items)), key=lambda i: hashlib.sha256(items[i].example.id.encode()).digest())
    chosen = sorted(order[:count])
    again = dict(alone.answers([items[i] for i in chosen]))
    pairs = [(answers[i], again[number]) for number, i in enumerate(chosen)]
    differences = [
        abs(a - b) for x, y in pairs for a, b in zip(x.loglikelihoods, y.loglikelihoods, strict=True)
    ]
    return Verification(
        num_items=len(chosen),
        largest_difference=max(differences, default=0.0),
        num_changed=sum(_shown(x) != _shown(y) for x, y in pairs),
    )


def _shown(answer: Answer) -> int | str | None:
    if answer.generation is not None or not answer.loglikelihoods:
        return answer.generation
    return answer.loglikelihoods.index(max(answer.loglikelihoods))
