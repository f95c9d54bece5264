"""Aggregates answers to scores: mean, standard error, interval, and the score of guessing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.config.benchmark import Average, BenchmarkConfig, Extract, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.config.history import hashed
from workbench.evaluation.extraction.extract import EXTRACTION_VERSION
from workbench.evaluation.metrics.guessing import can_be_guessed, chance, majority
from workbench.evaluation.metrics.likelihood_scores import is_right, target_loglikelihood, text_loglikelihood
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.metrics.metric import Metric
from workbench.evaluation.metrics.samples import Samples, SampleScore, judged, sample_scores
from workbench.evaluation.metrics.table import generated
from workbench.evaluation.metrics.text_counts import UNEXTRACTED, num_unextracted
from workbench.evaluation.metrics.text_similarity import COMPARISON_VERSION
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import ITEM_ALONE, Answer, Score, prompt_hash
from workbench.evaluation.tasks.requests import Item
from workbench.run_dir import fingerprint
from workbench.statistics import intervals

_CORPUS_SAMPLES = 200
"""Resamples for scores that aren't means: each takes a pass over all items."""


def scores(
    benchmark: PreparedBenchmark,
    items: Sequence[Item],
    answers: Sequence[Sequence[Answer]],
    evaluate: EvaluateConfig,
    model_name: str,
    **more: Any,
) -> list[Score]:
    """Return the scores by each metric of the benchmark, the main metric first.

    Of several answers to an item, these are the scores of `sample_scores`.

    Args:
        benchmark: the benchmark.
        items: its items that were asked.
        answers: the answers to each item; one, or as many to each item.
        evaluate: coverage of the intervals, and number of option orders.
        model_name: name of the model, a field of each score.
        more: further fields of each score.

    Raises:
        ConfigError: A metric's value is infinite or NaN.
    """
    all_scores = []
    for name in benchmark.config.metrics:
        metric = metric_named(name)
        pairs = zip(items, answers, strict=True)
        item_samples = [judged(metric, item, item_answers) for item, item_answers in pairs]
        for score in sample_scores(name, metric, len(answers[0]), benchmark.config.generation.extract):
            all_scores.append(
                _score(score, benchmark, items, item_samples, evaluate, model=model_name, **more)
            )
    return all_scores


def _score(
    score: SampleScore,
    benchmark: PreparedBenchmark,
    items: Sequence[Item],
    item_samples: Sequence[Samples],
    evaluate: EvaluateConfig,
    **more: Any,
) -> Score:
    config, metric = benchmark.config, score.metric
    by_subset: dict[str, list[Samples]] = {}
    for samples in item_samples:
        by_subset.setdefault(samples[0].example.subset, []).append(samples)
    macro = config.average == Average.macro and len(by_subset) > 1
    parts = by_subset if macro else {"": list(item_samples)}
    value, stderr, interval = _estimate(score, parts, evaluate)
    firsts = {name: [samples[0] for samples in part] for name, part in parts.items()}
    is_guessable = score.is_of_metric and can_be_guessed(
        metric, config, [first for part in firsts.values() for first in part]
    )
    if texts := more.get("texts"):
        predictions = [sample.prediction for samples in item_samples for sample in samples]
        more["texts"] = {**texts, UNEXTRACTED: num_unextracted(predictions)}
    return Score(
        benchmark=benchmark.name,
        language=config.language,
        metric=score.name,
        value=value,
        stderr=stderr,
        interval=list(interval) if interval else None,
        num_items=len(item_samples),
        num_fewshot=config.num_fewshot or 0,
        protocol=config.protocol,
        prompts=prompt_hash([item.hash for item in items]),
        chance=chance(firsts) if is_guessable else None,
        majority=majority(config, firsts) if is_guessable else None,
        average="macro" if macro else "micro",
        subsets={
            subset: {"value": score.value(subset_items), "num_items": len(subset_items)}
            for subset, subset_items in by_subset.items()
            if subset
        },
        groups=_groups(score, config.groups, by_subset, macro),
        num_shots_dropped=sum(item.num_shots_dropped for item in items),
        confidence=evaluate.confidence,
        rule=_rule(config, evaluate, metric),
        item_score=_item_score(score),
        num_total=benchmark.num_total,
        num_samples=len(item_samples[0]),
        group_members=_group_members(config.groups, by_subset),
        **more,
    )


def _item_score(score: SampleScore) -> str:
    """Say in words which score each item has, if the score is not the mean of these scores; else ""."""
    if score.corpus is None:
        return ""
    known: dict[object, str] = {
        is_right: "1 where the answer is right, else 0",
        text_loglikelihood: "log-likelihood of the text, in nats",
        target_loglikelihood: "log-likelihood of the target, in nats",
    }
    return known.get(score.metric.score, f"{score.name} {ITEM_ALONE}")


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
    windows = {}
    if config.output_type == OutputType.perplexity and evaluate.max_length is not None:
        windows = {"max_length": evaluate.max_length}  # the length of the windows in which a text is read
    return fingerprint(
        {
            **windows,
            "output_type": config.output_type.name,
            "scoring": config.scoring.name,
            "average": config.average.name,
            "permutations": evaluate.permutations if config.options and not generation else 1,
            "generation": {key: str(value) for key, value in limits.items()},
        }
    )[:16]


def _estimate(
    score: SampleScore, parts: Mapping[str, Sequence[Samples]], evaluate: EvaluateConfig
) -> tuple[float, float | None, intervals.Interval | None]:
    """Return a score's value, standard error and interval, averaged over parts of the items.

    The parts are the subsets (macro average), or all items as a single part (micro average). An item is one
    unit, however many answers it has.
    """
    value = intervals.mean([score.value(part) for part in parts.values()])
    corpus = score.corpus
    if corpus is not None:
        if min(len(part) for part in parts.values()) < 2:
            return value, None, None
        return value, *resampled(lambda _, sample: corpus(sample), parts, evaluate)
    items = {name: [score.score(samples) for samples in part] for name, part in parts.items()}
    clusters = [samples[0].example.cluster for part in parts.values() for samples in part]
    return value, *intervals.error_and_interval(items, clusters, evaluate.confidence)


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
    groups: Mapping[str, Sequence[str]], by_subset: Mapping[str, Sequence[Samples]]
) -> dict[str, list[str]]:
    """Return group -> those of its subsets that have items; groups without items are left out."""
    members = {
        name: [subset for subset in subsets if subset in by_subset] for name, subsets in groups.items()
    }
    return {name: subsets for name, subsets in members.items() if subsets}


def _groups(
    score: SampleScore,
    groups: Mapping[str, Sequence[str]],
    by_subset: Mapping[str, list[Samples]],
    macro: bool,
) -> dict[str, dict[str, float]]:
    """Return group of subsets -> a score's value, and the number of items."""
    group_scores: dict[str, dict[str, float]] = {}
    for name, subsets in groups.items():
        parts = [by_subset[subset] for subset in subsets if subset in by_subset]
        if not parts:
            continue
        items = [item for part in parts for item in part]
        value = intervals.mean([score.value(part) for part in parts]) if macro else score.value(items)
        group_scores[name] = {"value": value, "num_items": len(items)}
    return group_scores
