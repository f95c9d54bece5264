"""Defines what an import holds: one model of another tool, with its scores and the score of every item."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.evaluation.records import Prediction, Score

MOST_ITEMS = 10**6
"""Items of a benchmark."""
MOST_BYTES = 4 * 2**30
"""Bytes of a file with items."""


@dataclass(frozen=True, kw_only=True)
class ImportedItems:
    """Items of one model on one benchmark; all lists have the same order."""

    ids: list[str]
    subsets: list[str]
    prompts: list[str]
    """Hash of all texts that the tool gave to the model, as in predictions of lm-evaluation-harness tasks."""
    plain_prompts: list[str]
    """Hash of the same prompt as in predictions of this project's own benchmarks."""
    clusters: list[str]
    """What items on the same text share; empty: the item is independent."""
    num_choices: list[int]
    """Number of choices; 0: the answer is generated, or a single text is scored."""
    values: dict[str, list[float]]
    """Metric -> score of each item."""
    meanings: dict[str, str]
    """Metric that isn't the mean of its items -> what `values` holds, as `Score.item_score`."""
    weights: dict[str, list[float]]
    """Metric of log-likelihoods -> the bytes or words of each item, where the tool tells them."""
    targets: list[Any]
    predictions: list[Any]
    texts: list[str]
    """Text whose log-likelihood is scored; empty for other benchmarks."""
    read: Callable[[], list[Prediction]]
    """Reads the items again with their texts.

    Raises:
        DataError: The file was changed since the items were read.
    """


@dataclass(frozen=True, kw_only=True)
class ImportedResults:
    """Results of one model, scored by another tool."""

    path: Path
    """Folder of the files."""
    tool: str
    """Name of the tool, with its version where the files tell it."""
    model: str
    """Name or path of the model, as the tool was given it."""
    facts: dict[str, Any]
    """dtype, num_parameters, quantization, ...; only those that are known."""
    measured: dict[str, Any]
    """Settings and versions of the tool, for the provenance of the numbers."""
    scores: list[Score]
    items: dict[str, ImportedItems]
    """Benchmark -> its items."""
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LeftOut:
    """A file of another tool that isn't imported, with the reason."""

    path: Path
    reason: str


LISTS = (
    *("ids", "subsets", "prompts", "plain_prompts", "clusters"),
    *("num_choices", "targets", "predictions", "texts"),
)
"""Fields of imported items that have one entry an item."""


def reordered(items: ImportedItems, order: Sequence[int]) -> ImportedItems:
    """Return the items in another order."""
    lists: dict[str, Any] = {name: [getattr(items, name)[index] for index in order] for name in LISTS}
    values, weights = (
        {name: [numbers[index] for index in order] for name, numbers in numbers_of.items()}
        for numbers_of in (items.values, items.weights)
    )
    return replace(items, **lists, values=values, weights=weights)


def joined(parts: Sequence[ImportedItems]) -> ImportedItems:
    """Return the items of several subjects as one benchmark, with the metrics that all of them have."""
    metrics = [name for name in parts[0].values if all(name in part.values for part in parts)]

    def read() -> list[Prediction]:
        return [prediction for part in parts for prediction in part.read()]

    lists: dict[str, Any] = {
        name: [value for part in parts for value in getattr(part, name)] for name in LISTS
    }
    return ImportedItems(
        **lists,
        values={name: [value for part in parts for value in part.values[name]] for name in metrics},
        meanings={name: text for name, text in parts[0].meanings.items() if name in metrics},
        weights={
            name: [weight for part in parts for weight in part.weights[name]]
            for name in metrics
            if all(name in part.weights for part in parts)
        },
        read=read,
    )
