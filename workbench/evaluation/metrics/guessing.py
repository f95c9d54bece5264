"""Computes the scores of guessing: of naming a choice at random, and of always naming the same choice."""

from collections import Counter
from collections.abc import Mapping, Sequence

from workbench.config.benchmark import BenchmarkConfig, Extract, OutputType
from workbench.evaluation.metrics.metric import Judged, Metric
from workbench.evaluation.records import Example
from workbench.statistics import intervals


def can_be_guessed(metric: Metric, config: BenchmarkConfig, judged: Sequence[Judged]) -> bool:
    """Return whether naming one of an item's choices at random may be right by the metric."""
    if config.output_type != OutputType.generation:
        return metric.guessing
    has_letters = config.generation.extract == Extract.letter and all(j.example.choices for j in judged)
    return metric.guessing and has_letters


def chance(parts: Mapping[str, Sequence[Judged]]) -> float | None:
    """Return the expected score of guessing: each item's right choices / choices, averaged like the score."""
    shares = [[_share_right(item) for item in part] for part in parts.values()]
    return intervals.mean([intervals.mean(part) for part in shares])


def _share_right(item: Judged) -> float:
    """Return the share of an item's choices that are right; 0 if the answer is several letters, as `BD`."""
    right = [target for target in _targets(item.example) if not isinstance(target, str) or len(target) == 1]
    return len(right) / (len(item.answer.loglikelihoods) or len(item.example.choices))


def majority(config: BenchmarkConfig, parts: Mapping[str, Sequence[Judged]]) -> float | None:
    """Return the best score of always giving the same choice; None if the choices differ between items."""
    if config.choices_from and config.output_type != OutputType.classification:
        return None
    shares: dict[object, float] = {}
    for part in parts.values():
        for target, count in Counter(target for item in part for target in _targets(item.example)).items():
            shares[target] = shares.get(target, 0.0) + count / len(part)
    return max(shares.values()) / len(parts)


def _targets(example: Example) -> tuple[object, ...]:
    """Return the targets of an item as a tuple, also if there is only one."""
    return example.target if isinstance(example.target, tuple) else (example.target,)
