"""Scores a model with tasks of lm-evaluation-harness and converts the results to predictions and scores."""

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
from workbench.evaluation.harness.item_scores import Combine, item_score, meaning
from workbench.evaluation.harness.model import HarnessLM
from workbench.evaluation.harness.tasks import HarnessTasks, item_id, quietly
from workbench.evaluation.metrics import statistics
from workbench.evaluation.metrics.aggregate import resampled
from workbench.evaluation.records import Prediction, PreparedBenchmark, Score, prompt_hash
from workbench.run_dir import fingerprint

log = logging.getLogger("workbench")
Sample = Mapping[str, Any]
Values = dict[str, list[Any]]
"""Subset -> value of a metric for each item."""


def evaluate(
    benchmark: PreparedBenchmark, lm: HarnessLM, config: EvaluateConfig, model_name: str
) -> tuple[list[Prediction], list[Score]]:
    """Ask the tasks of a benchmark; the harness computes the values, this project errors and intervals."""
    harness_tasks: HarnessTasks = benchmark.tasks
    for task in harness_tasks.tasks.values():
        task.set_fewshot_seed(seed=config.fewshot_seed)
    groups = {} if harness_tasks.group is None else {harness_tasks.group.name: harness_tasks.group}
    with quietly(), _reported_failures(lm):
        results = evaluate_tasks(
            lm,
            {"tasks": harness_tasks.tasks, "groups": groups, "group_map": {}},
            limit=None if harness_tasks.samples else benchmark.config.limit,
            samples=harness_tasks.samples,
            bootstrap_iters=0,
            apply_chat_template=config.chat_template,
            fewshot_as_multiturn=config.chat_template,
        )
    samples = {key: results["samples"][key] for key in harness_tasks.tasks}
    predictions = [
        prediction
        for key, task_samples in samples.items()
        for prediction in _predictions(
            task_samples, key if harness_tasks.group else "", harness_tasks.tasks[key]
        )
    ]
    reported = harness_tasks.group.name if harness_tasks.group else next(iter(harness_tasks.tasks))
    totals = results["results"][reported]
    return predictions, _scores(benchmark, samples, totals, predictions, config, model_name)


@contextmanager
def _reported_failures(lm: HarnessLM) -> Iterator[None]:
    """Report failures of a task's filters, metrics and aggregations in one line.

    Raises:
        DataError: A task fails outside of the model.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        if lm.is_asking:
            raise
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise DataError(
            "the task's filters and metrics can't score the answers, which are cached: "
            f"{reason:.300} (use another metric or aggregation in metric_list of the task's file)"
        ) from error


def _predictions(samples: Sequence[Sample], subset: str, task: Any) -> list[Prediction]:
    """Return one prediction per item: the answer of the first filter, the scores of all filters."""
    by_item: dict[int, list[Sample]] = {}
    for sample in samples:
        by_item.setdefault(sample["doc_id"], []).append(sample)
    return [_prediction(filtered, subset, task.aggregation()) for filtered in by_item.values()]


def _prediction(filtered: Sequence[Sample], subset: str, combine: Mapping[str, Combine]) -> Prediction:
    first = filtered[0]
    arguments, responses = first["arguments"], [response[0] for response in first["resps"]]
    if "acc_mutual_info" in first["metrics"]:  # then each choice is asked again without context
        arguments, responses = arguments[: len(arguments) // 2], responses[: len(responses) // 2]
    text = responses[0] if isinstance(responses[0], str) else None
    likelihoods = [] if text is not None else [_likelihood(response) for response in responses]
    choices = [str(argument[1]) for argument in arguments] if text is None and len(arguments) > 1 else []
    answer: int | str | None = likelihoods.index(max(likelihoods)) if choices else None
    if text is not None:
        answer = str(first["filtered_resps"][0])
    scores = {
        _metric(name, sample["filter"]): value
        for sample in filtered
        for name in sample["metrics"]
        if (value := item_score(sample[name], combine[name])) is not None
    }
    return Prediction(
        id=item_id(subset, first["doc_id"]),
        subset=subset,
        prompt_hash=prompt_hash([_text(text) for argument in arguments for text in argument])[:16],
        context=_text(arguments[0][0]),
        choices=choices,
        loglikelihoods=likelihoods,
        generation=text,
        prediction=answer,
        target=_target(first["target"]),
        scores=scores,
    )


def _likelihood(response: Any) -> float:
    return float(response[0] if isinstance(response, list | tuple) else response)


def _text(argument: Any) -> str:
    return argument if isinstance(argument, str) else json.dumps(argument, sort_keys=True, default=str)


def _target(target: Any) -> int | str | list[int]:
    if isinstance(target, int) and not isinstance(target, bool):
        return target
    if isinstance(target, list) and target and all(isinstance(index, int) for index in target):
        return target
    return str(target)


def _metric(name: str, filter_name: str) -> str:
    """Return a metric's name with the filter's name after a comma, as the harness does."""
    return name if filter_name == "none" else f"{name},{filter_name}"


def _scores(
    benchmark: PreparedBenchmark,
    samples: Mapping[str, Sequence[Sample]],
    totals: Mapping[str, Any],
    predictions: Sequence[Prediction],
    config: EvaluateConfig,
    model_name: str,
) -> list[Score]:
    """Return one score per metric and filter, the main metric first."""
    values: dict[tuple[str, str], Values] = {}
    for key, task_samples in samples.items():
        for sample in task_samples:
            for name in sample["metrics"]:
                values.setdefault((name, sample["filter"]), {}).setdefault(key, []).append(sample[name])
    prompts = prompt_hash([prediction.prompt_hash for prediction in predictions])
    chance = _chance(benchmark, predictions)
    return [
        _score(
            benchmark,
            name,
            filter_name,
            values[name, filter_name],
            config,
            model=model_name,
            value=float(totals[f"{name},{filter_name}"]),
            prompts=prompts,
            chance=chance if name.startswith("acc") else None,
        )
        for name, filter_name in _reported(benchmark, values, totals)
    ]


def _reported(
    benchmark: PreparedBenchmark, values: Mapping[tuple[str, str], Values], totals: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return the metrics with filters that are reported: those of `metrics` with a finite total.

    Raises:
        ConfigError: None is left.
    """
    metrics = benchmark.tasks.metrics
    reported = [
        (name, filter_name)
        for name, filter_name in values
        if f"{name},{filter_name}" in totals and (not metrics or name in metrics)
    ]
    if metrics:
        reported.sort(key=lambda pair: metrics.index(pair[0]))
    finite = [pair for pair in reported if _is_finite(totals, *pair, benchmark.name)]
    if not finite:
        raise ConfigError("metrics: no metric has a finite value (name other metrics)")
    return finite


def _score(
    benchmark: PreparedBenchmark,
    name: str,
    filter_name: str,
    values: Values,
    config: EvaluateConfig,
    **fields: Any,
) -> Score:
    """Return the score of a metric, given its value for each item; `fields` has further fields of a Score."""
    tasks, group = benchmark.tasks.tasks, benchmark.tasks.group
    macro = group is not None and _average(group, name, filter_name) == Average.macro
    combine = {key: tasks[key].aggregation()[name] for key in values}
    item_scores = {key: [item_score(value, combine[key]) for value in part] for key, part in values.items()}
    is_mean = all(_is_mean(item_scores[key], combine[key](part)) for key, part in values.items())
    stderr, interval = _errors(values, item_scores if is_mean else {}, combine, macro, config)
    return Score(
        benchmark=benchmark.name,
        language=benchmark.config.language,
        metric=_metric(name, filter_name),
        stderr=stderr,
        interval=list(interval) if interval else None,
        num_items=sum(len(part) for part in values.values()),
        num_fewshot=benchmark.config.num_fewshot or 0,
        protocol=benchmark.config.protocol,
        average="macro" if macro else "micro",
        confidence=config.confidence,
        rule=fingerprint(benchmark.rule)[:16],
        item_score="" if is_mean else meaning(name, next(iter(values.values()))),
        subsets={
            key: {"value": float(combine[key](part)), "num_items": len(part)}
            for key, part in values.items()
            if group is not None
        },
        **fields,
    )


def _average(group: Any, metric: str, filter_name: str) -> Average:
    """Return how a group averages a metric of its tasks."""
    weighted = [
        aggregation.weight_by_size
        for aggregation in group.aggregate_metric_list
        if aggregation.metric == metric and filter_name in (aggregation.filter_list or [filter_name])
    ]
    return Average.micro if all(weighted) else Average.macro


def _is_finite(totals: Mapping[str, Any], metric: str, filter_name: str, benchmark: str) -> bool:
    """Return whether the total of a metric is finite; otherwise log a warning."""
    if math.isfinite(float(totals[f"{metric},{filter_name}"])):
        return True
    log.warning(
        "benchmarks.%s: %s is infinite or NaN and is not reported (texts without spaces have too few words "
        "for a perplexity per word)",
        benchmark,
        metric,
    )
    return False


def _is_mean(item_scores: Sequence[float | None], total: float) -> bool:
    """Return whether a total is the mean of the items' scores."""
    numbers = [number for number in item_scores if number is not None]
    return len(numbers) == len(item_scores) and abs(statistics.mean(numbers) - total) < 1e-12


def _chance(benchmark: PreparedBenchmark, predictions: Sequence[Prediction]) -> float | None:
    """Return the expected score of guessing among the choices; None for tasks without choices."""
    if any(task.OUTPUT_TYPE != "multiple_choice" for task in benchmark.tasks.tasks.values()):
        return None
    return statistics.mean(
        [_num_right(prediction) / max(1, len(prediction.choices)) for prediction in predictions]
    )


def _num_right(prediction: Prediction) -> int:
    return len(set(map(str, prediction.target))) if isinstance(prediction.target, list) else 1


def _errors(
    values: Values,
    item_scores: Mapping[str, Sequence[float | None]],
    combine: Mapping[str, Combine],
    macro: bool,
    config: EvaluateConfig,
) -> tuple[float | None, statistics.Interval | None]:
    """Return standard error and interval, computed as for all other benchmarks.

    Args:
        values: subset -> value of the metric for each item.
        item_scores: subset -> score of each item, if the total is their mean; otherwise empty.
        combine: subset -> function that computes the metric from the values of several items.
        macro: whether each subset counts the same.
        config: coverage of the interval, and number of resamples.
    """
    means = {key: [number for number in part if number is not None] for key, part in item_scores.items()}
    samples = config.bootstrap_samples
    if means and macro:
        return statistics.macro_stderr(means), statistics.macro_interval(means, config.confidence, samples)
    if means:
        scores = [score for part in means.values() for score in part]
        return statistics.stderr(scores), statistics.interval(scores, config.confidence, samples)
    if min(len(part) for part in values.values()) < 2:
        return None, None
    return resampled(lambda key, part: float(combine[key](part)), values, config)
