"""What tasks of lm-evaluation-harness make of a model's answers, as predictions and scores."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval.evaluator import evaluate as evaluate_tasks

from workbench.config.benchmark import Average
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.harness.interviewer import HarnessInterviewer, HarnessTasks
from workbench.evaluation.harness.item_scores import Combine, item_score, meaning
from workbench.evaluation.harness.model import HarnessLM
from workbench.evaluation.harness.tasks import item_id, quietly
from workbench.evaluation.metrics.aggregate import resampled
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Prediction, Score, prompt_hash
from workbench.run_dir import fingerprint
from workbench.statistics import intervals

log = logging.getLogger("workbench")
Sample = Mapping[str, Any]
Values = dict[str, list[Any]]
"""Subset -> what a metric gave for each item."""


def evaluate(
    benchmark: PreparedBenchmark,
    interviewer: HarnessInterviewer,
    lm: HarnessLM,
    config: EvaluateConfig,
    model_name: str,
) -> tuple[list[Prediction], list[Score]]:
    """Ask the tasks of a benchmark; values are the harness's own, errors and intervals this project's."""
    found = interviewer.tasks
    for task in found.tasks.values():
        task.set_fewshot_seed(seed=config.fewshot_seed)
    groups = {} if found.group is None else {found.group.name: found.group}
    with quietly(), _of_metrics(lm):
        results = evaluate_tasks(
            lm,
            {"tasks": found.tasks, "groups": groups, "group_map": {}},
            limit=None if found.samples else benchmark.config.limit,
            samples=found.samples,
            bootstrap_iters=0,
            apply_chat_template=config.chat_template,
            fewshot_as_multiturn=config.chat_template,
        )
    samples = {key: results["samples"][key] for key in found.tasks}
    predictions = [
        one
        for key, some in samples.items()
        for one in _predictions(some, key if found.group else "", found.tasks[key])
    ]
    totals = results["results"][found.group.name if found.group else next(iter(found.tasks))]
    return predictions, _scores(benchmark, interviewer, samples, totals, predictions, config, model_name)


@contextmanager
def _of_metrics(lm: HarnessLM) -> Iterator[None]:
    """Say in a line what went wrong in what a task makes of the answers: its filters, metrics, averages.

    Raises:
        DataError: a task fails there.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        if lm.is_asking:
            raise
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise DataError(
            "the task's filters and metrics can make no score of the answers, which are kept: "
            f"{reason:.300} (another metric or aggregation in metric_list of the task's file)"
        ) from error


def _predictions(samples: Sequence[Sample], subset: str, task: Any) -> list[Prediction]:
    """One an item: answers after the first filter, scores after all of them."""
    by_item: dict[int, list[Sample]] = {}
    for sample in samples:
        by_item.setdefault(sample["doc_id"], []).append(sample)
    return [_prediction(some, subset, task.aggregation()) for some in by_item.values()]


def _prediction(filtered: Sequence[Sample], subset: str, combine: Mapping[str, Combine]) -> Prediction:
    first = filtered[0]
    arguments, responses = first["arguments"], [given[0] for given in first["resps"]]
    if (
        "acc_mutual_info" in first["metrics"]
    ):  # then each choice is asked twice, the second time without context
        arguments, responses = arguments[: len(arguments) // 2], responses[: len(responses) // 2]
    text = responses[0] if isinstance(responses[0], str) else None
    likelihoods = [] if text is not None else [_likelihood(given) for given in responses]
    choices = [str(one[1]) for one in arguments] if text is None and len(arguments) > 1 else []
    answer: int | str | None = likelihoods.index(max(likelihoods)) if choices else None
    if text is not None:
        answer = str(first["filtered_resps"][0])
    scores = {
        _metric(name, one["filter"]): value
        for one in filtered
        for name in one["metrics"]
        if (value := item_score(one[name], combine[name])) is not None
    }
    return Prediction(
        id=item_id(subset, first["doc_id"]),
        subset=subset,
        prompt_hash=prompt_hash([_text(argument) for one in arguments for argument in one])[:16],
        context=_text(arguments[0][0]),
        choices=choices,
        loglikelihoods=likelihoods,
        generation=text,
        prediction=answer,
        target=_target(first["target"]),
        scores=scores,
    )


def _likelihood(given: Any) -> float:
    return float(given[0] if isinstance(given, list | tuple) else given)


def _text(argument: Any) -> str:
    return argument if isinstance(argument, str) else json.dumps(argument, sort_keys=True, default=str)


def _target(target: Any) -> int | str | list[int]:
    if isinstance(target, int) and not isinstance(target, bool):
        return target
    if isinstance(target, list) and target and all(isinstance(one, int) for one in target):
        return target
    return str(target)


def _metric(name: str, filter_name: str) -> str:
    """A metric's name, and its filter behind a comma where it has a name, as in the harness."""
    return name if filter_name == "none" else f"{name},{filter_name}"


def _scores(
    benchmark: PreparedBenchmark,
    interviewer: HarnessInterviewer,
    samples: Mapping[str, Sequence[Sample]],
    totals: Mapping[str, Any],
    predictions: Sequence[Prediction],
    config: EvaluateConfig,
    model_name: str,
) -> list[Score]:
    found = interviewer.tasks
    values: dict[tuple[str, str], Values] = {}
    for key, some in samples.items():
        for sample in some:
            for name in sample["metrics"]:
                values.setdefault((name, sample["filter"]), {}).setdefault(key, []).append(sample[name])
    shown = [
        one for one in values if f"{one[0]},{one[1]}" in totals and one[0] in (found.metrics or [one[0]])
    ]
    if found.metrics:
        shown.sort(key=lambda one: found.metrics.index(one[0]))
    shown = [one for one in shown if _is_finite(totals, *one, benchmark.name)]
    if not shown:
        raise ConfigError("metrics: no metric that is left has a value that a number can hold (name others)")
    chance = _chance(found, predictions)
    scores = []
    for name, filter_name in shown:
        parts = values[name, filter_name]
        macro = found.group is not None and _average(found.group, name, filter_name) == Average.macro
        combine = {key: found.tasks[key].aggregation()[name] for key in parts}
        scored = {key: [item_score(value, combine[key]) for value in part] for key, part in parts.items()}
        is_mean = all(_is_mean(scored[key], combine[key](part)) for key, part in parts.items())
        stderr, interval = _errors(parts, scored if is_mean else {}, combine, macro, config)
        scores.append(
            Score(
                model=model_name,
                benchmark=benchmark.name,
                language=benchmark.config.language,
                metric=_metric(name, filter_name),
                value=float(totals[f"{name},{filter_name}"]),
                stderr=stderr,
                interval=list(interval) if interval else None,
                num_items=sum(len(part) for part in parts.values()),
                num_fewshot=benchmark.config.num_fewshot or 0,
                protocol=benchmark.config.protocol,
                prompts=prompt_hash([one.prompt_hash for one in predictions]),
                chance=chance if name.startswith("acc") else None,
                average="macro" if macro else "micro",
                confidence=config.confidence,
                rule=fingerprint(interviewer.rule)[:16],
                item_score="" if is_mean else meaning(name, next(iter(parts.values()))),
                num_total=benchmark.num_total,
                subsets={
                    key: {"value": float(combine[key](part)), "num_items": len(part)}
                    for key, part in parts.items()
                    if found.group is not None
                },
            )
        )
    return scores


def _average(group: Any, metric: str, filter_name: str) -> Average:
    """How a group averages a metric of its tasks."""
    weighted = [
        one.weight_by_size
        for one in group.aggregate_metric_list
        if one.metric == metric and filter_name in (one.filter_list or [filter_name])
    ]
    return Average.micro if all(weighted) else Average.macro


def _is_finite(totals: Mapping[str, Any], metric: str, filter_name: str, benchmark: str) -> bool:
    """Whether a number holds the total of a metric; said where none does."""
    if math.isfinite(float(totals[f"{metric},{filter_name}"])):
        return True
    log.warning(
        "benchmarks.%s: %s is more than a number can hold, or none, and is left out (texts without spaces "
        "have too few words for a perplexity per word)",
        benchmark,
        metric,
    )
    return False


def _is_mean(scored: Sequence[float | None], total: float) -> bool:
    """Whether a total is the mean of what the items score."""
    numbers = [number for number in scored if number is not None]
    return len(numbers) == len(scored) and abs(intervals.mean(numbers) - total) < 1e-12


def _chance(found: HarnessTasks, predictions: Sequence[Prediction]) -> float | None:
    """What guessing among the choices would score; None where there is one answer to score or to write."""
    if any(task.OUTPUT_TYPE != "multiple_choice" for task in found.tasks.values()):
        return None
    return intervals.mean([_num_right(one) / max(1, len(one.choices)) for one in predictions])


def _num_right(prediction: Prediction) -> int:
    return len(set(map(str, prediction.target))) if isinstance(prediction.target, list) else 1


def _errors(
    parts: Values,
    scored: Mapping[str, Sequence[float | None]],
    combine: Mapping[str, Combine],
    macro: bool,
    config: EvaluateConfig,
) -> tuple[float | None, intervals.Interval | None]:
    """Standard error and interval, as for every other benchmark.

    Args:
        parts: what the metric gave for each item.
        scored: what each item scores, where the total is their mean, else empty.
        combine: the metric's score of several items of a part.
        macro: whether each part counts the same.
        config: coverage.
    """
    means = {key: [number for number in part if number is not None] for key, part in scored.items()}
    if means and macro:
        return intervals.macro_stderr(means), intervals.macro_interval(means, config.confidence)
    if means:
        together = [value for part in means.values() for value in part]
        return intervals.stderr(together), intervals.interval(together, config.confidence)
    if min(len(part) for part in parts.values()) < 2:
        return None, None
    return resampled(lambda key, part: float(combine[key](part)), parts, config)
