"""Converts the results of lm-evaluation-harness's tasks to predictions and scores."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from lm_eval.evaluator import evaluate as evaluate_tasks

from workbench.config.benchmark import Average
from workbench.config.evaluate import EvaluateConfig, takes_chat_template
from workbench.errors import ConfigError, DataError
from workbench.evaluation.harness.interviewer import HarnessInterviewer, HarnessTasks
from workbench.evaluation.harness.item_scores import NO_FILTER, Combine, item_score, meaning, with_filter
from workbench.evaluation.harness.model import HarnessLM
from workbench.evaluation.harness.sample_predictions import Sample, sample_predictions
from workbench.evaluation.harness.tasks import silenced
from workbench.evaluation.metric_directions import declared_direction
from workbench.evaluation.metrics.aggregate import resampled
from workbench.evaluation.metrics.text_counts import TEXTS, UNEXTRACTED, num_unextracted, text_counts
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Prediction, Score, prompt_hash
from workbench.run_dir import fingerprint
from workbench.statistics import intervals

log = logging.getLogger("workbench")
Values = dict[str, list[Any]]
"""Task -> a metric's value of each item of the task."""


def evaluate(
    benchmark: PreparedBenchmark,
    interviewer: HarnessInterviewer,
    lm: HarnessLM,
    config: EvaluateConfig,
    model_name: str,
) -> tuple[list[Prediction], list[Score]]:
    """Run the tasks of a benchmark, and return predictions and scores.

    The harness computes the scores' values; standard errors and intervals are computed as for the benchmarks
    of this project.

    Raises:
        ConfigError: No metric has a finite value.
        DataError: A task's filters or metrics can't score the answers.
    """
    selected = interviewer.tasks
    for task in selected.tasks.values():
        task.set_fewshot_seed(seed=config.fewshot_seed)
    groups = {} if selected.group is None else {selected.group.name: selected.group}
    with silenced(), _scoring_errors(lm):
        results = evaluate_tasks(
            lm,
            {"tasks": selected.tasks, "groups": groups, "group_map": {}},
            limit=None if selected.samples else benchmark.config.limit,
            samples=selected.samples,
            bootstrap_iters=0,
            system_instruction=config.system or None,
            apply_chat_template=takes_chat_template(benchmark.config, config),
            fewshot_as_multiturn=takes_chat_template(benchmark.config, config) and config.fewshot_as_turns,
        )
    samples = {key: results["samples"][key] for key in selected.tasks}
    predictions = [
        prediction
        for key, task_samples in samples.items()
        for prediction in sample_predictions(task_samples, key if selected.group else "", selected.tasks[key])
    ]
    totals = results["results"][selected.group.name if selected.group else next(iter(selected.tasks))]
    scores = _scores(benchmark, interviewer, samples, totals, predictions, config, model_name)
    return predictions, [replace(score, texts=_text_counts(lm, samples, score.metric)) for score in scores]


def _text_counts(lm: HarnessLM, samples: Mapping[str, Sequence[Sample]], metric: str) -> dict[str, int]:
    """Return the counts of generated texts for the score by a metric; empty if no text was generated.

    `unextracted` counts what the metric's filter finds; it is left out where an item has several texts.
    """
    if not lm.texts:
        return {}
    counts, filter_name = text_counts(lm.texts), metric.partition(",")[2] or NO_FILTER
    extracted_texts = [
        sample["filtered_resps"][0]
        for task_samples in samples.values()
        for sample in task_samples
        if sample["filter"] == filter_name and isinstance(sample["resps"][0][0], str)
    ]
    return counts | (
        {UNEXTRACTED: num_unextracted(extracted_texts)} if len(extracted_texts) == counts[TEXTS] else {}
    )


@contextmanager
def _scoring_errors(lm: HarnessLM) -> Iterator[None]:
    """Convert errors of a task's filters, metrics and aggregations to DataError.

    Errors of the model are raised unchanged.

    Raises:
        DataError: A task can't score the answers.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        if lm.is_asking:
            raise
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise DataError(
            f"the task's filters and metrics can't score the answers: {reason:.300} (the answers are cached; "
            "name another metric or aggregation in metric_list of the task's file)"
        ) from error


def _scores(
    benchmark: PreparedBenchmark,
    interviewer: HarnessInterviewer,
    samples: Mapping[str, Sequence[Sample]],
    totals: Mapping[str, Any],
    predictions: Sequence[Prediction],
    config: EvaluateConfig,
    model_name: str,
) -> list[Score]:
    """Return the scores by all reported metrics, the main one first.

    Raises:
        ConfigError: No metric has a finite value.
    """
    selected = interviewer.tasks
    values = _values(samples)
    prompts = prompt_hash([prediction.prompt_hash for prediction in predictions])
    chance = _chance(selected, predictions)
    scores = []
    for name, filter_name in _reported(values, totals, selected, benchmark.name):
        parts = values[name, filter_name]
        macro = selected.group is not None and _average(selected.group, name, filter_name) == Average.macro
        combine = {key: selected.tasks[key].aggregation()[name] for key in parts}
        told = selected.tasks[next(iter(parts))].higher_is_better().get(name)
        scored = {key: [item_score(value, combine[key]) for value in part] for key, part in parts.items()}
        is_mean = all(_is_mean(scored[key], combine[key](part)) for key, part in parts.items())
        stderr, interval = _errors(parts, scored if is_mean else {}, combine, macro, config)
        scores.append(
            Score(
                model=model_name,
                benchmark=benchmark.name,
                language=benchmark.config.language,
                metric=with_filter(name, filter_name),
                value=float(totals[f"{name},{filter_name}"]),
                stderr=stderr,
                interval=list(interval) if interval else None,
                num_items=sum(len(part) for part in parts.values()),
                num_fewshot=benchmark.config.num_fewshot or 0,
                protocol=benchmark.config.protocol,
                prompts=prompts,
                chance=chance if name.startswith("acc") else None,
                average="macro" if macro else "micro",
                confidence=config.confidence,
                rule=fingerprint(interviewer.rule)[:16],
                item_score="" if is_mean else meaning(name, next(iter(parts.values()))),
                num_total=benchmark.num_total,
                subsets=_subset_values(parts, combine) if selected.group is not None else {},
                higher_is_better=declared_direction(name, told),
            )
        )
    return scores


def _values(samples: Mapping[str, Sequence[Sample]]) -> dict[tuple[str, str], Values]:
    """Return (metric, filter) -> task -> the value that the metric stores for each item."""
    values: dict[tuple[str, str], Values] = {}
    for key, task_samples in samples.items():
        for sample in task_samples:
            for name in sample["metrics"]:
                values.setdefault((name, sample["filter"]), {}).setdefault(key, []).append(sample[name])
    return values


def _reported(
    values: Mapping[tuple[str, str], Values],
    totals: Mapping[str, Any],
    selected: HarnessTasks,
    benchmark: str,
) -> list[tuple[str, str]]:
    """Return the (metric, filter) pairs to report: those whose value over all items is finite.

    If the configuration names metrics, only these are reported, in their order.

    Raises:
        ConfigError: No pair has a finite value.
    """
    reported = [
        (name, filter_name)
        for name, filter_name in values
        if f"{name},{filter_name}" in totals and name in (selected.metrics or [name])
    ]
    if selected.metrics:
        reported.sort(key=lambda metric: selected.metrics.index(metric[0]))
    reported = [metric for metric in reported if _is_finite(totals, *metric, benchmark)]
    if not reported:
        raise ConfigError("metrics: the value of each metric is infinite or NaN (name other metrics)")
    return reported


def _subset_values(parts: Values, combine: Mapping[str, Combine]) -> dict[str, dict[str, float]]:
    """Return, for one metric and each task of a group, the metric's value and the number of items."""
    return {key: {"value": float(combine[key](part)), "num_items": len(part)} for key, part in parts.items()}


def _average(group: Any, metric: str, filter_name: str) -> Average:
    """Return `micro` if a group averages a metric over all items, `macro` if over its tasks."""
    are_weighted = [
        aggregation.weight_by_size
        for aggregation in group.aggregate_metric_list
        if aggregation.metric == metric and filter_name in (aggregation.filter_list or [filter_name])
    ]
    return Average.micro if all(are_weighted) else Average.macro


def _is_finite(totals: Mapping[str, Any], metric: str, filter_name: str, benchmark: str) -> bool:
    """Return whether a metric's value over all items is finite; if not, log a warning."""
    if math.isfinite(float(totals[f"{metric},{filter_name}"])):
        return True
    log.warning(
        "benchmarks.%s: %s is infinite or NaN and is left out (texts without spaces have too few words for a "
        "perplexity per word)",
        benchmark,
        metric,
    )
    return False


def _is_mean(scored: Sequence[float | None], total: float) -> bool:
    """Return whether a metric's value `total` is the mean of the items' scores, and each item has a score."""
    numbers = [number for number in scored if number is not None]
    return len(numbers) == len(scored) and abs(intervals.mean(numbers) - total) < 1e-12


def _chance(selected: HarnessTasks, predictions: Sequence[Prediction]) -> float | None:
    """Return the expected score of guessing among the choices; None if some task is not multiple choice."""
    if any(task.OUTPUT_TYPE != "multiple_choice" for task in selected.tasks.values()):
        return None
    shares = [_num_right(prediction) / max(1, len(prediction.choices)) for prediction in predictions]
    return intervals.mean(shares)


def _num_right(prediction: Prediction) -> int:
    return len(set(map(str, prediction.target))) if isinstance(prediction.target, list) else 1


def _errors(
    parts: Values,
    scored: Mapping[str, Sequence[float | None]],
    combine: Mapping[str, Combine],
    macro: bool,
    config: EvaluateConfig,
) -> tuple[float | None, intervals.Interval | None]:
    """Return standard error and interval of a metric; None if it isn't a mean and some task has one item.

    Args:
        parts: Task -> value that the metric stores for each item.
        scored: Task -> score of each item; empty unless the metric is the mean of these scores.
        combine: Task -> function that computes the metric from the stored values.
        macro: Whether each task has the same weight.
        config: Coverage of the interval.
    """
    means = {key: [number for number in part if number is not None] for key, part in scored.items()}
    if means and macro:
        return intervals.macro_stderr(means), intervals.macro_interval(means, config.confidence)
    if means:
        item_scores = [value for part in means.values() for value in part]
        return intervals.stderr(item_scores), intervals.interval(item_scores, config.confidence)
    if min(len(part) for part in parts.values()) < 2:
        return None, None
    return resampled(lambda key, part: float(combine[key](part)), parts, config)
