"""Converts the samples of lm-evaluation-harness, one for each item and filter, to predictions."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.evaluation.harness.item_scores import Combine, item_id, item_score, with_filter
from workbench.evaluation.records import Prediction, prompt_hash

Sample = Mapping[str, Any]


def sample_predictions(samples: Sequence[Sample], subset: str, task: Any) -> list[Prediction]:
    """Return one prediction per item: its answer after the first filter, its scores after each filter.

    Args:
        samples: samples of one task, as the harness returns them.
        subset: name of the task in a group, or empty.
        task: the harness's task, which says how its metrics are computed.
    """
    by_item: dict[int, list[Sample]] = {}
    for sample in samples:
        by_item.setdefault(sample["doc_id"], []).append(sample)
    return [_prediction(filtered, subset, task.aggregation()) for filtered in by_item.values()]


def _prediction(filtered: Sequence[Sample], subset: str, combine: Mapping[str, Combine]) -> Prediction:
    first = filtered[0]
    arguments, responses = first["arguments"], [repeats[0] for repeats in first["resps"]]
    if "acc_mutual_info" in first["metrics"]:  # the second half of the requests has no context
        arguments, responses = arguments[: len(arguments) // 2], responses[: len(responses) // 2]
    text = responses[0] if isinstance(responses[0], str) else None
    likelihoods = [] if text is not None else [_likelihood(response) for response in responses]
    choices = [str(request[1]) for request in arguments] if text is None and len(arguments) > 1 else []
    answer: int | str | None = likelihoods.index(max(likelihoods)) if choices else None
    if text is not None:
        answer = str(first["filtered_resps"][0])
    scores = {
        with_filter(name, sample["filter"]): value
        for sample in filtered
        for name in sample["metrics"]
        if (value := item_score(sample[name], combine[name])) is not None
    }
    return Prediction(
        id=item_id(subset, first["doc_id"]),
        subset=subset,
        prompt_hash=prompt_hash([argument_text(argument) for request in arguments for argument in request])[
            :16
        ],
        context=argument_text(arguments[0][0]),
        choices=choices,
        loglikelihoods=likelihoods,
        generation=text,
        prediction=answer,
        target=_target(first["target"]),
        scores=scores,
    )


def _likelihood(response: Any) -> float:
    return float(response[0] if isinstance(response, list | tuple) else response)


def argument_text(argument: Any) -> str:
    """Return an argument of a request of lm-evaluation-harness as a text, anything but texts in JSON."""
    return argument if isinstance(argument, str) else json.dumps(argument, sort_keys=True, default=str)


def _target(target: Any) -> int | str | list[int]:
    if isinstance(target, int) and not isinstance(target, bool):
        return target
    if isinstance(target, list) and target and all(isinstance(label, int) for label in target):
        return target
    return str(target)
