"""Pairs the items of two models on one benchmark: by equal prompts, or else by equal questions."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from workbench.evaluation.records import Prediction
from workbench.leaderboard.compare_two.documents import matched_documents
from workbench.leaderboard.compare_two.sides import Side

ENOUGH = 0.5
"""Items are paired by equal prompts if at least this share of the shorter list can be; else by equal
questions."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of items that both models answered, in the order of the first model's items."""

    first: list[Prediction]
    second: list[Prediction]
    clusters: list[str]
    """Name of each pair's cluster, such as a common text; empty: the item is independent."""
    by: str
    """prompt: both models read the same prompt. document: the same question in different prompts."""
    num_first: int
    """Number of the first model's items, paired or not."""
    num_second: int
    weights: dict[str, list[float]] = field(default_factory=dict)
    """Metric of log-likelihoods -> bytes or words of each item, if the first model's tool reports them."""

    @property
    def note(self) -> str:
        """Return a note on differing prompts or unpaired items; empty if all items are paired by prompt."""
        notes = []
        if self.by == "document":
            notes.append("the prompts differ: paired by document")
        if len(self.first) < max(self.num_first, self.num_second):
            notes.append(
                f"{len(self.first):,} items in common, of {self.num_first:,} and {self.num_second:,}"
            )
        return "; ".join(notes)


def pair_items(first: Side, second: Side, benchmark: str, other: str) -> Pairs:
    """Pair the items of two models on one benchmark by equal prompts.

    If these pair less than half of the shorter list, and equal questions pair more, pair by equal questions.

    Args:
        first: Results of the first model.
        second: Results of the second model.
        benchmark: Name of the benchmark in the first results.
        other: Its name in the second results.

    Raises:
        DataError: Predictions are damaged, or were changed since they were written.
    """
    left, right = first.predictions(benchmark), second.predictions(other)
    indices, by = _same_prompts(first, second, benchmark, other, left, right), "prompt"
    if len(indices) < ENOUGH * min(len(left), len(right)):
        documents = matched_documents(left, right)
        if len(documents) > len(indices):
            indices, by = documents, "document"
    clusters = [left[index].cluster or right[there].cluster for index, there in indices]
    left, right = _labelled(first, benchmark, left), _labelled(second, other, right)
    imported = first.imported(benchmark)
    weights = imported.weights if imported is not None else {}
    return Pairs(
        first=[left[index] for index, _ in indices],
        second=[right[index] for _, index in indices],
        clusters=clusters,
        by=by,
        num_first=len(left),
        num_second=len(right),
        weights={metric: [sizes[index] for index, _ in indices] for metric, sizes in weights.items()},
    )


def _labelled(side: Side, benchmark: str, predictions: list[Prediction]) -> list[Prediction]:
    """Put the imported answers and targets, labels where the metric is of labels, into the predictions."""
    imported = side.imported(benchmark)
    if imported is None or len(imported.ids) != len(predictions):
        return predictions
    answers = zip(predictions, imported.predictions, imported.targets, strict=True)
    return [replace(one, prediction=label, target=target) for one, label, target in answers]


def _same_prompts(
    first: Side,
    second: Side,
    benchmark: str,
    other: str,
    left: Sequence[Prediction],
    right: Sequence[Prediction],
) -> list[tuple[int, int]]:
    """Return (index in left, index in right) of items with equal prompt hashes.

    Results may have two kinds of hash; the kinds that pair most items are used.
    """
    hashes = [_hashes(first, benchmark, left), _hashes(second, other, right)]
    best: list[tuple[int, int]] = []
    for own in hashes[0]:
        for there in hashes[1]:
            found = _joined(own, there, left, right)
            best = found if len(found) > len(best) else best
    return best


def _hashes(side: Side, benchmark: str, predictions: Sequence[Prediction]) -> list[list[str]]:
    """Return one list of all items' prompt hashes, or two for imported results, which have two kinds."""
    hashes = [[prediction.prompt_hash for prediction in predictions]]
    imported = side.imported(benchmark)
    if imported is not None and len(imported.plain_prompts) == len(predictions):
        hashes.append(imported.plain_prompts)
    return hashes


def _joined(
    own: Sequence[str], there: Sequence[str], left: Sequence[Prediction], right: Sequence[Prediction]
) -> list[tuple[int, int]]:
    """Return index pairs of equal hashes; each item is in at most one pair.

    Of several items with one hash, those with equal ids are paired first.
    """
    free: dict[str, list[int]] = {}
    for index in range(len(there) - 1, -1, -1):
        free.setdefault(there[index], []).append(index)
    pairs = []
    for index, prompt in enumerate(own):
        if candidates := free.get(prompt):
            same = [other for other in candidates if right[other].id == left[index].id]
            chosen = same[0] if same else candidates[-1]
            candidates.remove(chosen)
            pairs.append((index, chosen))
    return pairs
