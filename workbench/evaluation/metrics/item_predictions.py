"""Makes a prediction of each item from its answers: what it states, and its scores."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workbench.config.benchmark import Extract
from workbench.evaluation.benchmarks.option_orders import option_logprobs
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.metrics.metric import Metric
from workbench.evaluation.metrics.samples import judged, sample_scores
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Answer, Prediction
from workbench.evaluation.tasks.requests import Item

NOT_PLAIN = "(not in plain text)"
"""Stands in predictions for the prompt of a benchmark with `plain_text: false`."""


def predictions(
    benchmark: PreparedBenchmark,
    items: Sequence[Item],
    answers: Sequence[Sequence[Answer]],
    given: Sequence[Sequence[Answer]] | None = None,
) -> list[Prediction]:
    """Return one prediction per item, in order, with the answer that the benchmark's first metric scores.

    If the benchmark sets `plain_text: false`, prompts and generated texts are left out.

    If some item was asked in several option orders, the log-likelihoods in the predictions of all items are
    normalized to log-probabilities among the options.

    Args:
        benchmark: the benchmark.
        items: its items that were asked.
        answers: the answers to each item as they are scored; one, or as many to each item.
        given: the answers to each item as the model gave them, with their thoughts; None: `answers`.

    Raises:
        ConfigError: A metric of the benchmark is unknown.
    """
    metrics = [(name, metric_named(name)) for name in benchmark.config.metrics]
    extract = benchmark.config.generation.extract
    is_normalized = any(example.rotations for example in benchmark.examples)
    rows = [
        _prediction(metrics, item, answer, whole, is_normalized, extract)
        for item, answer, whole in zip(items, answers, given or answers, strict=True)
    ]
    return rows if benchmark.config.plain_text else [_without_texts(row) for row in rows]


def _without_texts(prediction: Prediction) -> Prediction:
    """Return a prediction without prompt and generated text; choices but letters become `(1)`, `(2)`, ..."""
    numbers = [f"({number})" for number in range(1, len(prediction.choices) + 1)]
    is_lettered = all(len(choice.strip(" .()")) == 1 for choice in prediction.choices)
    choices = prediction.choices if is_lettered else numbers
    samples = [{**sample, "generation": None} for sample in prediction.samples]
    return replace(prediction, context=NOT_PLAIN, choices=choices, generation=None, samples=samples)


def _prediction(
    metrics: Sequence[tuple[str, Metric]],
    item: Item,
    answers: Sequence[Answer],
    all_given: Sequence[Answer],
    is_normalized: bool,
    extract: Extract,
) -> Prediction:
    example, answer, given = item.example, answers[0], all_given[0]
    scores = {
        score.name: score.score(judged(metric, item, answers))
        for name, metric in metrics
        for score in sample_scores(name, metric, len(answers), extract)
    }
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
        samples=[_sample(metrics, item, *pair) for pair in zip(answers, all_given, strict=True)]
        if len(answers) > 1
        else [],
    )


def _sample(
    metrics: Sequence[tuple[str, Metric]], item: Item, answer: Answer, given: Answer
) -> dict[str, Any]:
    """Return one of several answers to an item, with its own scores, for a prediction's `samples`."""
    own = {name: (metric, judged(metric, item, [answer])[0]) for name, metric in metrics}
    return {
        "generation": given.generation,
        "prediction": own[metrics[0][0]][1].prediction,
        "finish_reason": given.finish_reason,
        **({"thought_cut": True} if given.thought_cut else {}),
        "scores": {name: metric.score(*one) for name, (metric, one) in own.items()},
    }


def _as_json(target: int | str | tuple[int, ...] | tuple[str, ...]) -> Any:
    """Return a target as a value for JSON: a tuple as a list."""
    return list(target) if isinstance(target, tuple) else target
