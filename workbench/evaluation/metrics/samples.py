"""Scores several answers to each item: their mean, their majority, and whether one of k is right."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench.config.benchmark import Extract
from workbench.evaluation.extraction.extract import INVALID
from workbench.evaluation.metrics.metric import Judged, Metric
from workbench.evaluation.records import Answer
from workbench.evaluation.tasks.requests import Item
from workbench.statistics import intervals

Samples = Sequence[Judged]
"""All answers to one item, in the order in which they were drawn; at least one."""
_NO_ANSWER = (None, "", INVALID)
"""Predictions of texts that state no answer; they have no vote."""


@dataclass(frozen=True, kw_only=True)
class SampleScore:
    """A score of items with one or several answers each."""

    name: str
    """Name of the score, such as `exact_match`, `exact_match,maj@5` or `exact_match,pass@4`."""
    metric: Metric
    """The metric that scores each answer."""
    score: Callable[[Samples], float]
    """Returns the score of an item."""
    corpus: Callable[[Sequence[Samples]], float] | None = None
    """Returns the score of many items; None: it is the mean of the items' scores."""
    is_of_metric: bool = True
    """Whether it is the metric's own score, the mean over the answers, and not of their majority or of k."""

    def value(self, items: Sequence[Samples]) -> float:
        """Return the score of many items."""
        if self.corpus is not None:
            return self.corpus(items)
        return intervals.mean([self.score(samples) for samples in items])


def sample_scores(name: str, metric: Metric, num_samples: int, extract: Extract) -> list[SampleScore]:
    """Return the scores by a metric of items with `num_samples` answers: the mean, then further ones.

    `extract` is the benchmark's rule that takes the answer from a text.

    The mean over the answers has the metric's name. With several answers follow the score of the majority,
    `METRIC,maj@n`, if equal predictions can be counted, and for a metric that says right or wrong
    `METRIC,pass@k` for powers of two and for all answers. Of the metric `pass@1` they are `pass@2`, ...
    """

    def score_of_k(k: int) -> Callable[[Samples], float]:
        return lambda samples: pass_at(k, len(samples), sum(metric.score(*one) == 1 for one in samples))

    corpus = metric.corpus
    scores = [
        SampleScore(
            name=name,
            metric=metric,
            score=lambda samples: intervals.mean([metric.score(*sample) for sample in samples]),
            corpus=None
            if corpus is None
            else lambda items: intervals.mean([corpus(answers) for answers in zip(*items, strict=True)]),
        )
    ]
    if num_samples > 1 and metric.vote is not None:
        scores.append(
            SampleScore(
                name=f"{name},maj@{num_samples}",
                metric=metric,
                score=lambda samples: metric.score(*majority(metric, samples, extract)),
                is_of_metric=False,
            )
        )
    for k in _sizes(num_samples) if metric.right_or_wrong else ():
        scores.append(
            SampleScore(
                name=f"pass@{k}" if name == "pass@1" else f"{name},pass@{k}",
                metric=metric,
                score=score_of_k(k),
                is_of_metric=False,
            )
        )
    return scores


def judged(metric: Metric, item: Item, answers: Sequence[Answer]) -> list[Judged]:
    """Return the answers to an item with the predictions that a metric takes from them."""
    return [Judged(metric.judge(answer, item.example), answer, item.example) for answer in answers]


def majority(metric: Metric, samples: Samples, extract: Extract) -> Judged:
    """Return the answer with the prediction that most answers to an item have: those that score alike.

    They have the same `metric.vote`, or the same value by `metric.same_answer`. Of predictions with equally
    many votes, the one that was drawn first counts. Texts without an answer have no vote; if all are, the
    first is returned. `extract` is the benchmark's rule that took the predictions from the texts.
    """
    assert metric.vote is not None
    firsts: dict[str, Judged] = {}
    keys: list[str | None] = []
    for sample in samples:
        if sample.prediction in _NO_ANSWER:
            keys.append(None)
            continue
        key = metric.vote(str(sample.prediction), extract)
        if key not in firsts and metric.same_answer is not None:
            same = metric.same_answer
            key = next((known for known, first in firsts.items() if same(first, sample)), key)
        firsts.setdefault(key, sample)
        keys.append(key)
    votes = Counter(key for key in keys if key is not None)
    winner = votes.most_common(1)[0][0] if votes else None  # of equal counts the first drawn
    return samples[keys.index(winner)]


def pass_at(k: int, num_samples: int, num_right: int) -> float:
    """Return the probability that at least one of k answers, drawn from all without replacement, is right.

    It estimates the same of k new answers without bias. Source: pass@k of arXiv:2107.03374, section 2.1.
    """
    return 1 - math.comb(num_samples - num_right, k) / math.comb(num_samples, k)


def _sizes(num_samples: int) -> list[int]:
    """Return the k of pass@k: powers of two from 2 on, and `num_samples`; none for one answer."""
    powers = [2**exponent for exponent in range(1, num_samples.bit_length())]
    return sorted({*powers, num_samples} - {1})
