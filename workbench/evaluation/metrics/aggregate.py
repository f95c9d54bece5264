"""Aggregates answers to predictions and scores: mean, standard error, interval, and the score of guessing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workbench.config.benchmark import Average, BenchmarkConfig, Extract, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.config.history import hashed
from workbench.evaluation.benchmarks.option_orders import option_logprobs
from workbench.evaluation.extraction.extract import EXTRACTION_VERSION
from workbench.evaluation.metrics.guessing import can_be_guessed, chance, majority
from workbench.evaluation.metrics.likelihood_scores import is_right, target_loglikelihood, text_loglikelihood
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.metrics.metric import Judged, Metric
from workbench.evaluation.metrics.table import generated
from workbench.evaluation.metrics.text_counts import UNEXTRACTED, num_unextracted
from workbench.evaluation.metrics.text_similarity import COMPARISON_VERSION
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import ITEM_ALONE, Answer, Prediction, Score, prompt_hash
from workbench.evaluation.tasks.requests import Item
from workbench.run_dir import fingerprint
from workbench.statistics import intervals

NOT_PLAIN = "(not in plain text)"
"""Stands in predictions for the prompt of a benchmark with `plain_text: false`."""
_CORPUS_SAMPLES = 200
"""Resamples for scores that aren't means: each takes a pass over all items."""


def predictions(
    benchmark: PreparedBenchmark,
    items: Sequence[Item],
    answers: Sequence[Answer],
    given: Sequence[Answer] | None = None,
) -> list[Prediction]:
    """Return one prediction per item, in order, with the answer that the benchmark's first metric scores.

    If the benchmark sets `plain_text: false`, prompts and generated texts are left out.

    If some item was asked in several option orders, the log-likelihoods in the predictions of all items are
    normalized to log-probabilities among the options.

    Args:
        benchmark: the benchmark.
        items: its items that were asked.
        answers: the answer of each item that is scored.
        given: the answer of each item as the model gave it, with its thought; None: `answers`.

    Raises:
        ConfigError: A metric of the benchmark is unknown.
    """
    metrics = [(name, metric_named(name)) for name in benchmark.config.metrics]
    is_normalized = any(example.rotations for example in benchmark.examples)
    rows = [
        _prediction(metrics, item, answer, whole, is_normalized)
        for item, answer, whole in zip(items, answers, given or answers, strict=True)
    ]
    return rows if benchmark.config.plain_text else [_without_texts(row) for row in rows]


def _without_texts(prediction: Prediction) -> Prediction:
    """Return a prediction without prompt and generated text; choices but letters become `(1)`, `(2)`, ..."""
    numbers = [f"({number})" for number in range(1, len(prediction.choices) + 1)]
    is_lettered = all(len(choice.strip(" .()")) == 1 for choice in prediction.choices)
    choices = prediction.choices if is_lettered else numbers
    return replace(prediction, context=NOT_PLAIN, choices=choices, generation=None)


def _prediction(
    metrics: Sequence[tuple[str, Metric]], item: Item, answer: Answer, given: Answer, is_normalized: bool
) -> Prediction:
    example = item.example
    scores = {name: metric.score(metric.judge(answer, example), answer, example) for name, metric in metrics}
    return Prediction(
        id=example.id,
        subset=example.subset,
        prompt_hash=item.hash[:16],
        context=item.contexts[0],
        choices=list(example.choices),
        loglikelihoods=(
            option_logprobs(answer.loglikelihoods)
            if is_normalized and not example.rotations
            else list(answer.loglikelihoods)
        ),
        generation=given.generation,
        prediction=metrics[0][1].judge(answer, example),
        target=_as_json(example.target),
        scores=scores,
        num_shots_dropped=item.num_shots_dropped,
        cluster=example.cluster,
        finish_reason=given.finish_reason,
        thought_cut=bool(given.thought_cut),
    )


def _as_json(target: int | str | tuple[int, ...] | tuple[str, ...]) -> Any:
    """Return a target as a value for JSON: a tuple as a list."""
    return list(target) if isinstance(target, tuple) else target


def scores(
    benchmark: PreparedBenchmark,
    items: Sequence[Item],
    answers: Sequence[Answer],
    evaluate: EvaluateConfig,
    model_name: str,
    **more: Any,
) -> list[Score]:
    """Return one score per metric of the benchmark, the main metric first.

    Args:
        benchmark: the benchmark.
        items: its items that were asked.
        answers: one answer per item.
        evaluate: coverage of the intervals, and number of option orders.
        model_name: name of the model, a field of each score.
        more: further fields of each score.

    Raises:
        ConfigError: A metric's value is infinite or NaN.
    """
    return [
        _score(name, benchmark, items, answers, evaluate, model=model_name, **more)
        for name in benchmark.config.metrics
    ]


def _score(
    name: str,
    benchmark: PreparedBenchmark,
    items: Sequence[Item],
    answers: Sequence[Answer],
    evaluate: EvaluateConfig,
    **more: Any,
) -> Score:
    config, metric = benchmark.config, metric_named(name)
    judged = [
        Judged(metric.judge(answer, item.example), answer, item.example)
        for item, answer in zip(items, answers, strict=True)
    ]
    by_subset: dict[str, list[Judged]] = {}
    for item in judged:
        by_subset.setdefault(item.example.subset, []).append(item)
    macro = config.average == Average.macro and len(by_subset) > 1
    parts = by_subset if macro else {"": judged}
    value, stderr, interval = _estimate(metric, parts, evaluate)
    is_guessable = can_be_guessed(metric, config, judged)
    if texts := more.get("texts"):
        more["texts"] = {**texts, UNEXTRACTED: num_unextracted([item.prediction for item in judged])}
    return Score(
        benchmark=benchmark.name,
        language=config.language,
        metric=name,
        value=value,
        stderr=stderr,
        interval=list(interval) if interval else None,
        num_items=len(judged),
        num_fewshot=config.num_fewshot or 0,
        protocol=config.protocol,
        prompts=prompt_hash([item.hash for item in items]),
        chance=chance(parts) if is_guessable else None,
        majority=majority(config, parts) if is_guessable else None,
        average="macro" if macro else "micro",
        subsets={
            subset: {"value": _value(metric, subset_items), "num_items": len(subset_items)}
            for subset, subset_items in by_subset.items()
            if subset
        },
        groups=_groups(metric, config.groups, by_subset, macro),
        num_shots_dropped=sum(item.num_shots_dropped for item in items),
        confidence=evaluate.confidence,
        rule=_rule(config, evaluate, metric),
        item_score=_item_score(name, metric),
        num_total=benchmark.num_total,
        group_members=_group_members(config.groups, by_subset),
        **more,
    )


def _item_score(name: str, metric: Metric) -> str:
    """Say in words which score each item has, if the metric is not the mean of these scores; else ""."""
    if metric.corpus is None:
        return ""
    known: dict[object, str] = {
        is_right: "1 where the answer is right, else 0",
        text_loglikelihood: "log-likelihood of the text, in nats",
        target_loglikelihood: "log-likelihood of the target, in nats",
    }
    return known.get(metric.score, f"{name} {ITEM_ALONE}")


def _rule(config: BenchmarkConfig, evaluate: EvaluateConfig, metric: Metric) -> str:
    """Return a fingerprint of the settings that a metric's score depends on besides the prompts."""
    generation = config.output_type == OutputType.generation
    limits = hashed(config.generation, "benchmarks.*.generation") if generation else {}
    if metric.judge is generated and config.generation.extract in (Extract.number, Extract.letter):
        limits["extraction"] = EXTRACTION_VERSION
    elif generation and config.protocol != "lm-eval" and config.generation.extract != Extract.code:
        limits["thoughts"] = "not read"
    if metric.runs_programs:
        limits |= {"program": config.program, "extraction": EXTRACTION_VERSION}
    if metric.compares_texts:
        limits["comparison"] = COMPARISON_VERSION
    return fingerprint(
        {
            "output_type": config.output_type.name,
            "scoring": config.scoring.name,
            "average": config.average.name,
            "permutations": evaluate.permutations if config.options and not generation else 1,
            "generation": {key: str(value) for key, value in limits.items()},
        }
    )[:16]


def _estimate(
    metric: Metric, parts: Mapping[str, Sequence[Judged]], evaluate: EvaluateConfig
) -> tuple[float, float | None, intervals.Interval | None]:
    """Return a metric's value, standard error and interval, averaged over parts of the items.

    The parts are the subsets (macro average), or all items as a single part (micro average).
    """
    value = intervals.mean([_value(metric, part) for part in parts.values()])
    corpus = metric.corpus
    if corpus is not None:
        if min(len(part) for part in parts.values()) < 2:
            return value, None, None
        return value, *resampled(lambda _, sample: corpus(sample), parts, evaluate)
    items = {name: [metric.score(*item) for item in part] for name, part in parts.items()}
    clusters = [item.example.cluster for part in parts.values() for item in part]
    return value, *intervals.error_and_interval(items, clusters, evaluate.confidence)


def _value(metric: Metric, judged: Sequence[Judged]) -> float:
    if metric.corpus is not None:
        return metric.corpus(judged)
    return intervals.mean([metric.score(*item) for item in judged])


def resampled(
    corpus: Callable[[str, list[Any]], float], parts: Mapping[str, Sequence[Any]], evaluate: EvaluateConfig
) -> tuple[float | None, intervals.Interval | None]:
    """Return standard error and percentile interval of a score that isn't a mean, from resampled items.

    Both are None if all samples have the same score (as where every answer is right), which says nothing
    about the error.

    Args:
        corpus: computes the score of items of a part, given the name of the part.
        parts: name -> items; items are resampled within their part, and the parts' scores are averaged.
        evaluate: coverage of the interval.
    """
    rng = np.random.default_rng(20230501)
    values = []
    for _ in range(_CORPUS_SAMPLES):
        drawn = {key: [part[i] for i in rng.integers(0, len(part), len(part))] for key, part in parts.items()}
        values.append(intervals.mean([corpus(key, sample) for key, sample in drawn.items()]))
    if min(values) == max(values):
        return None, None
    tail = (1 - evaluate.confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(np.std(values, ddof=1)), (float(low), float(high))


def _group_members(
    groups: Mapping[str, Sequence[str]], by_subset: Mapping[str, Sequence[Judged]]
) -> dict[str, list[str]]:
    """Return group -> those of its subsets that have items; groups without items are left out."""
    members = {
        name: [subset for subset in subsets if subset in by_subset] for name, subsets in groups.items()
    }
    return {name: subsets for name, subsets in members.items() if subsets}


def _groups(
    metric: Metric, groups: Mapping[str, Sequence[str]], by_subset: Mapping[str, list[Judged]], macro: bool
) -> dict[str, dict[str, float]]:
    """Return group of subsets -> a metric's value, and the number of items."""
    group_scores: dict[str, dict[str, float]] = {}
    for name, subsets in groups.items():
        parts = [by_subset[subset] for subset in subsets if subset in by_subset]
        if not parts:
            continue
        items = [item for part in parts for item in part]
        value = intervals.mean([_value(metric, p) for p in parts]) if macro else _value(metric, items)
        group_scores[name] = {"value": value, "num_items": len(items)}
    return group_scores
