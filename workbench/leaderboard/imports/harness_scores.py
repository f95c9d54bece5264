"""Computes scores from the items of lm-evaluation-harness's tasks, and checks the totals of tasks and groups.

Source: lm_eval 0.4.13, `api/group.Group.aggregate` (a group's total is a mean of its tasks' totals).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.field_checks import LARGEST
from workbench.evaluation.harness.item_scores import NO_FILTER
from workbench.evaluation.metric_directions import declared_direction
from workbench.evaluation.records import Score
from workbench.leaderboard.imported_items import ImportedItems
from workbench.leaderboard.imports.scores import (
    TOLERANCE,
    by_subset,
    contradiction,
    contradiction_jointly,
    score_of,
)

LOGLIKELIHOOD = "log-likelihood of the text, in nats"
LABEL = "1 where the label is right, else 0"
MOST_NATS = 700
"""Largest negative mean log-likelihood whose perplexity is computed; e to a higher power overflows."""


@dataclass(frozen=True)
class TaskItems:
    """Items of one task, and the totals that the results file reports for it."""

    items: ImportedItems
    totals: Mapping[str, Any]
    """`METRIC,FILTER` -> total."""
    metrics: Sequence[str]
    """Names of the metrics in the task's samples."""


def scores_of(
    items: ImportedItems,
    tasks: Sequence[TaskItems],
    totals: Mapping[str, Any],
    facts: Mapping[str, Any],
    higher_is_better: Mapping[str, Any],
) -> tuple[list[Score], list[str]]:
    """Return a benchmark's scores, one per metric, and the reasons for metrics that are left out.

    A metric of all items together, such as F1, is left out with a reason if its items contradict the reported
    total. Without a reported total, such a metric is left out silently, and so is any metric of a group. Item
    scores that turn out to be log-likelihoods are marked so in the `meanings` of `items` and of the tasks.

    Args:
        items: Items of all tasks.
        tasks: The benchmark's task, or the tasks of a group.
        totals: Totals that the results file reports for the benchmark: `METRIC,FILTER` -> total.
        facts: Further fields of `Score`, such as model, benchmark and protocol.
        higher_is_better: Metric without its filter -> the results file's entry.

    Raises:
        DataError: A reported mean differs from that of the items, or no metric remains.
    """
    scores, problems = [], []
    for metric in items.values:
        total: Any = totals.get(total_key(metric))
        if (metric in items.meanings or len(tasks) > 1) and not _is_number(total):
            continue
        _mark_perplexity(items, tasks, metric)
        average = _average(items, metric, total)
        problem = contradiction(items, metric, total, average)
        if problem:
            raise DataError(problem)
        direction = declared_direction(metric, higher_is_better.get(metric.partition(",")[0]))
        value = float(total) if _is_number(total) else None
        score = score_of(items, metric, value, average, higher_is_better=direction, **facts)
        problem = contradiction_jointly(items, score) if len(tasks) == 1 else _group_problem(tasks, score)
        if problem:
            problems.append(problem)
        else:
            scores.append(score)
    if not scores:
        names = ", ".join(tasks[0].metrics)
        raise DataError("; ".join(problems) or f"no metric has a score for each document (metrics: {names})")
    return scores, problems


def total_key(metric: str) -> str:
    """Return the key of a metric's total in a results file: `acc,none` for `acc`, `acc,FILTER` as it is."""
    return metric if "," in metric else f"{metric},{NO_FILTER}"


def _is_number(total: Any) -> bool:
    return isinstance(total, int | float) and abs(total) < LARGEST


def _mark_perplexity(items: ImportedItems, tasks: Sequence[TaskItems], metric: str) -> None:
    """Mark a metric's item scores as log-likelihoods if every task's total is exp(-mean of its scores)."""
    if all(_is_perplexity(task.items, metric, task.totals.get(total_key(metric))) for task in tasks):
        for own in (items, *(task.items for task in tasks)):
            own.meanings[metric] = LOGLIKELIHOOD


def _is_perplexity(items: ImportedItems, metric: str, total: Any) -> bool:
    mean = sum(items.values[metric]) / len(items.ids)
    return (
        _is_number(total)
        and -MOST_NATS < mean < 0
        and math.isclose(math.exp(-mean), total, rel_tol=TOLERANCE)
    )


def _average(items: ImportedItems, metric: str, total: Any) -> str:
    """Return how a total averages the items: macro over the tasks of a group, or micro over all items.

    macro if the total differs from the mean of all items, and for metrics that aren't means of items.
    """
    if len(by_subset(items, metric)) < 2:
        return "micro"
    return "macro" if metric in items.meanings or contradiction(items, metric, total, "micro") else "micro"


def _group_problem(tasks: Sequence[TaskItems], score: Score) -> str:
    """Return how a group's total contradicts its tasks' totals or their items; empty if it doesn't.

    Only for metrics of all items together, such as F1: each task's total is recomputed from its items, and
    the group's total must be the mean of its tasks' totals, weighted equally or by numbers of items.
    """
    if not score.item_score:
        return ""
    totals = [task.totals.get(total_key(score.metric)) for task in tasks]
    if not all(map(_is_number, totals)):
        return f"the results have no {score.metric} of each task, of which the group's is made"
    numbers = [float(total) for total in totals if total is not None]
    for task, number in zip(tasks, numbers, strict=True):
        problem = contradiction_jointly(task.items, replace(score, value=number, average="micro"))
        if problem:
            return problem
    sizes = [len(task.items.ids) for task in tasks]
    equal = math.fsum(numbers) / len(numbers)
    by_size = math.fsum(map(math.prod, zip(numbers, sizes, strict=True))) / sum(sizes)
    for mean in (equal, by_size):
        if math.isclose(score.value, mean, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            return ""
    return f"the results say {score.metric} {score.value:.6g} of the group, its tasks make {equal:.6g}"
