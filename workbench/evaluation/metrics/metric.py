"""Defines the types of a metric: judge, score of an item, score of many items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from workbench.config.benchmark import OutputType
from workbench.evaluation.records import Answer, Example


class Judged(NamedTuple):
    """An item to score: example, the model's answer, and the prediction that the metric takes from it."""

    prediction: int | str | None
    answer: Answer
    example: Example


Judge = Callable[[Answer, Example], "int | str | None"]
ItemScore = Callable[["int | str | None", Answer, Example], float]
CorpusScore = Callable[[Sequence[Judged]], float]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: functions that take a prediction from an answer, score one item, and score all items."""

    output_types: tuple[OutputType, ...]
    judge: Judge
    """Takes the prediction from an answer: index of the choice or label, or text."""
    score: ItemScore
    """Returns the score of one item."""
    corpus: CorpusScore | None = None
    """Returns the score of many items, if it isn't the mean of their scores."""
    guessing: bool = False
    """Whether the expected score of guessing among the choices is reported."""
    compares_texts: bool = False
    """Whether the score depends on `text_similarity.comparable`."""
    needs: str = ""
    """Package that the metric needs."""
