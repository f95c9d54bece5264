"""Reads an lm-evaluation-harness samples file as predictions with all texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.evaluation.harness.item_scores import item_id, with_filter
from workbench.evaluation.records import Prediction
from workbench.leaderboard.imports import harness_samples


def read_predictions(path: Path, subset: str) -> list[Prediction]:
    """Return one prediction per document of a samples file, with the texts and the scores after every filter.

    Args:
        path: Path of the samples file.
        subset: Name of the task if it is one of a group's tasks, which the ids start with; else empty.

    Raises:
        DataError: A line isn't a sample, or the file is too long or can't be read.
    """
    predictions: dict[int, Prediction] = {}
    for number, values in harness_samples.sample_lines(path):
        where = f"{path}:{number}"
        sample = harness_samples.sample_of(values, where)
        scores = {
            with_filter(name, sample.filter): score
            for name, value in sample.metrics.items()
            if (score := harness_samples.item_score(value)) is not None
        }
        if sample.number in predictions:
            predictions[sample.number].scores.update(scores)
        else:
            predictions[sample.number] = _as_prediction(values, sample, scores, subset, where)
    return list(predictions.values())


def _as_prediction(
    values: Mapping[str, Any],
    sample: harness_samples.Sample,
    scores: dict[str, float],
    subset: str,
    where: str,
) -> Prediction:
    requests = harness_samples.asked(values, where)
    choices = harness_samples.choices_of(requests)
    responses = values.get("resps")
    likelihoods = harness_samples.loglikelihoods(responses) if choices else []
    text = None if choices or sample.text else _first_text(responses)
    return Prediction(
        id=item_id(subset, sample.number),
        subset=subset,
        prompt_hash=sample.prompt,
        context=requests[0][0],
        choices=choices,
        loglikelihoods=likelihoods[: len(choices)],
        generation=text,
        prediction=None if sample.text else sample.prediction,
        target=target_of(sample.target, choices),
        scores=scores,
    )


def _first_text(responses: Any) -> str:
    while isinstance(responses, list) and responses:
        responses = responses[0]
    return str(responses)


def target_of(target: Any, choices: Sequence[str]) -> int | str:
    """Return the right answer of a sample: the index of the right choice, which the harness writes as text.

    Without choices, or if the target isn't an index: the text itself.
    """
    text = str(target)
    return int(text) if choices and text.isdecimal() and len(text) < 6 else text
