"""Defines results imported from another tool: one model's scores, and the score of every item."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.evaluation.records import Prediction, Score

MOST_ITEMS = 10**6
"""Largest number of items of a benchmark that is imported."""
MOST_BYTES = 4 * 2**30
"""Largest file of items that is imported, in bytes."""


@dataclass(frozen=True, kw_only=True)
class ImportedItems:
    """One model's items of one benchmark, as another tool scored them; lists have one entry per item."""

    ids: list[str]
    subsets: list[str]
    prompts: list[str]
    """Hash of everything that the tool gave to the model, computed as for this project's
    lm-evaluation-harness tasks."""
    plain_prompts: list[str]
    """Hash of the same prompt, computed as for this project's own benchmarks."""
    clusters: list[str]
    """Name of each item's cluster, such as a common text; empty: the item is independent."""
    num_choices: list[int]
    """Number of each item's choices; 0: the answer is generated, or a single text is scored."""
    values: dict[str, list[float]]
    """Metric -> score of each item."""
    meanings: dict[str, str]
    """Metric that isn't the mean of its items -> meaning of the numbers in `values`, as in
    `Score.item_score`."""
    weights: dict[str, list[float]]
    """Metric of log-likelihoods -> bytes or words of each item, where the tool's files have them."""
    targets: list[Any]
    """Right answer of each item: a choice's index or a text; for metrics of labels the label."""
    predictions: list[Any]
    """Model's answer to each item, in the same form as its target; None if the tool's file has none."""
    texts: list[str]
    """Text of each item whose log-likelihood is scored; empty for other benchmarks."""
    read: Callable[[], list[Prediction]]
    """Function that reads the tool's file again and returns its items with all texts.

    Raises:
        DataError: The file was changed since the items were read.
    """


@dataclass(frozen=True, kw_only=True)
class ImportedResults:
    """Results of one model that another tool scored."""

    path: Path
    """Folder of the tool's files."""
    tool: str
    """Name of the tool, with its version where its files have it."""
    model: str
    """Name or path of the model that was given to the tool."""
    facts: dict[str, Any]
    """dtype, num_parameters, quantization, ... of the model; unknown facts are missing."""
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
"""Fields of `ImportedItems` that are lists with one entry per item."""


def reordered(items: ImportedItems, order: Sequence[int]) -> ImportedItems:
    """Return a copy with the items at the indices in `order`, in this order.

    `read` of the copy still returns all items in the order of the tool's file.
    """
    lists: dict[str, Any] = {name: [getattr(items, name)[index] for index in order] for name in LISTS}
    values, weights = (
        {name: [numbers[index] for index in order] for name, numbers in numbers_of.items()}
        for numbers_of in (items.values, items.weights)
    )
    return replace(items, **lists, values=values, weights=weights)


def joined(parts: Sequence[ImportedItems]) -> ImportedItems:
    """Join the items of several subjects, at least one, into those of one benchmark, in the order of `parts`.

    Only the metrics that all subjects have remain.
    """
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
