"""Defines the types of a metric: judge, score of an item, score of many items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from workbench.config.benchmark import Extract, OutputType
from workbench.evaluation.records import Answer, Example


class Judged(NamedTuple):
    """An item to score: example, the model's answer, and the prediction that the metric takes from it."""

    prediction: int | str | None
    answer: Answer
    example: Example


Judge = Callable[[Answer, Example], "int | str | None"]
"""Takes the prediction from an answer: index of the choice or label, or text; None: it has no prediction."""
ItemScore = Callable[["int | str | None", Answer, Example], float]
"""Returns the score of one item from the prediction, the answer and the example."""
CorpusScore = Callable[[Sequence[Judged]], float]
"""Returns the score of many items together."""
Vote = Callable[[str, Extract], str]
"""Returns of a prediction, which the benchmark's rule took from a text, what those have in common that score
alike."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: functions that take a prediction from an answer, score one item, and score all items."""

    output_types: tuple[OutputType, ...]
    judge: Judge
    score: ItemScore
    corpus: CorpusScore | None = None
    """Returns the score of many items; None: it is the mean of their scores by `score`."""
    guessing: bool = False
    """Whether the expected score of guessing among the choices is reported: of a likelihood, or of a letter
    that a generated text states."""
    right_or_wrong: bool = False
    """Whether the score of an item is 1 or 0, so that pass@k of several answers can be estimated."""
    vote: Vote | None = None
    """Under what a prediction is counted, for the majority of several answers; None: predictions are not
    counted."""
    same_answer: Callable[[Judged, Judged], bool] | None = None
    """Whether two answers have one value although they are counted under different texts; None: none have."""
    compares_texts: bool = False
    """Whether the score depends on `text_similarity.comparable`."""
    needs: tuple[str, ...] = ()
    """Names of packages of an optional extra that the metric imports."""
    extra: str = "metrics"
    """Name of the optional extra that has the needed packages."""
    runs_programs: bool = False
    """Whether the metric runs programs that a model wrote."""
    score_ahead: Callable[[Sequence[Judged]], None] | None = None
    """Computes what the scores of many answers need, side by side, before `score` is called for each."""
    check_items: Callable[[str, Sequence[Example]], None] | None = None
    """Checks that all items can be scored, before a model is loaded; it gets the benchmark's key, too."""
