"""Reads a column's item scores for all models, and finds contradictions and models that can't be compared."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from workbench.config.names import ADAPTER, MERGED, UNTRAINED
from workbench.leaderboard.board import Cell, Column, Outcomes
from workbench.leaderboard.items.answers import Items
from workbench.leaderboard.items.columns import Scored, ScoredColumn, apart, by_model
from workbench.leaderboard.items.contradictions import contradictions
from workbench.leaderboard.items.index import ItemIndex
from workbench.leaderboard.items.metric_kinds import (
    MetricKind,
    kind_of,
    label_texts,
)
from workbench.leaderboard.items.reading import Reading, read
from workbench.leaderboard.run_remarks import UNVERIFIED
from workbench.shown import message

HEAD = message("against the most frequent class, because the head of the base is untrained")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A column of the leaderboard with the items of its models, and which models can be compared in it."""

    column: Column
    kind: MetricKind
    cells: dict[str, Cell]
    """Key of a model -> its cell, still without ranks."""
    main: tuple[str, ...]
    """Keys of the largest group of models that answered the same items from the same prompts."""
    first: Items | None
    """Items of the first model in `main`; the others in `main` have the same items in the same order. The
    clusters are from any of these models whose predictions have them."""
    items: dict[str, Items]
    """Key of a model -> its items; missing if they can't be read or give another value than the score's."""
    problems: dict[str, str]
    """Key of a model -> reason why it can't be compared."""
    alarms: list[str] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    """Key of a model -> remarks on its row."""
    agreements: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Key of a merged model -> number of items that it answers otherwise than its adapter, and of items
    compared."""
    untrained: frozenset[str] = frozenset()
    """Keys of models with an untrained classification head; the most frequent class replaces their
    answers."""

    @cached_property
    def clusters(self) -> NDArray[np.int32] | None:
        """Cluster number of each item of the models in `main`; None where items are independent."""
        return cluster_codes(self.first) if self.first is not None and self.first.is_clustered else None

    @cached_property
    def subsets(self) -> NDArray[np.object_] | None:
        """Subset of each item of the models in `main`, if the score is a macro average; else None."""
        if self.first is None or self.column.average != "macro":
            return None
        return np.array(self.first.subsets.to_pylist(), dtype=object)

    @property
    def is_averaged(self) -> bool:
        """Whether the column may enter a mean over columns: its score is a share and a mean of items."""
        return self.column.is_share and self.kind is MetricKind.mean

    def outcomes(self) -> Outcomes | None:
        """Return the items and the item scores of the models in `main`; None if `main` is empty."""
        if self.first is None:
            return None
        return Outcomes(
            column=self.column.key,
            models=self.main,
            ids=tuple(self.first.ids.to_pylist()),
            subsets=tuple(self.first.subsets.to_pylist()),
            clusters=cluster_codes(self.first),
            values=np.array([self.items[model].values for model in self.main]),
        )


def cluster_codes(items: Items) -> NDArray[np.int32]:
    """Number the clusters from 0 by first appearance; an item without a cluster has its own number."""
    numbers: dict[str, int] = {}
    texts = (cluster or f"\0{number}" for number, cluster in enumerate(items.clusters.to_pylist()))
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int32)


def read_column(column: ScoredColumn, names: dict[str, str], index: ItemIndex) -> Answered:
    """Read the items of all models in a column, check that they give the scores, and find comparable models.

    Of a model that several runs scored, one score is chosen. Unreadable items and contradictions raise no
    error: they are in the result's `problems` and `alarms`.

    Args:
        column: The column and its scores.
        names: Key of a model -> its name, for alarms.
        index: Cache of items.
    """
    chosen = {model: _best(scored, column.column) for model, scored in by_model(column.scored).items()}
    kind = kind_of(next(iter(chosen.values())).score)
    if kind in (MetricKind.labels, MetricKind.ratio) and any(map(_is_of_harness, chosen.values())):
        kind = MetricKind.unknown
    readings = {model: read(scored, kind, index) for model, scored in chosen.items()}
    items = {model: reading.items for model, reading in readings.items() if reading.items is not None}
    problems = {model: reading.problem for model, reading in readings.items() if reading.problem}
    alarms = [
        *_alarms(column.column, readings, names),
        *contradictions(column, chosen, items, names, index),
    ]
    untrained = frozenset(model for model in items if chosen[model].score.note == UNTRAINED)
    agreements = _agreements(column, chosen, items)
    for model in untrained:
        items[model] = _majority(items[model])
    apart_of = {model: _apart(scored, column.column, items.get(model)) for model, scored in chosen.items()}
    described = _with_is_share(column.column, items)
    main = _main(items, apart_of)
    first = _with_clusters([items[model] for model in main])
    if first is not None:
        apart_of = {
            model: text or _unlike(items.get(model), first, model in main) for model, text in apart_of.items()
        }
    cells = {
        model: Cell(
            model=model,
            column=column.column.key,
            score=scored.score,
            further=scored.further,
            source=scored.run.label,
            apart=apart_of[model],
        )
        for model, scored in chosen.items()
    }
    return Answered(
        column=described,
        kind=kind,
        cells=cells,
        main=main,
        first=first,
        items=items,
        problems=problems,
        alarms=alarms,
        agreements=agreements,
        untrained=untrained,
    )


def _alarms(column: Column, readings: Mapping[str, Reading], names: Mapping[str, str]) -> list[str]:
    """Return an alarm for each model whose items contradict its score."""
    return [
        message(
            "{model} on {column}: {problem}", model=names[model], column=column.label, problem=reading.problem
        )
        for model, reading in readings.items()
        if reading.is_alarm
    ]


def _is_of_harness(scored: Scored) -> bool:
    """Return whether lm-evaluation-harness computed a score within a run of this project.

    Such a score can't be recomputed: its F1 may be weighted, and its perplexity divides by the words of texts
    that aren't in the predictions.
    """
    is_imported = scored.run.items.get(scored.score.benchmark) is not None
    return scored.score.protocol.startswith("lm-eval ") and not is_imported


def _best(scored: Sequence[Scored], column: Column) -> Scored:
    """Choose which of a model's scores to show: on the column's prompts, then most items, then verified."""
    return min(
        scored,
        key=lambda each: (
            bool(apart(each.score, column)),
            -each.score.num_items,
            any(remark.startswith(UNVERIFIED) for remark in each.run.remarks),
        ),
    )


def _majority(items: Items) -> Items:
    """Replace all answers with the most frequent target, and the scores with 1 where it is right, else 0."""
    targets = label_texts(items.targets)
    counts = Counter(targets)
    most = min(counts, key=lambda target: (-counts[target], target))
    values = np.array([float(target == most) for target in targets])
    return replace(items, values=values, predictions=[most] * len(targets))


def _with_clusters(same: Sequence[Items]) -> Items | None:
    """Return the first entry of models' equal items, with the clusters of the first entry that has some.

    None for an empty list.
    """
    known = next((each for each in same if each.is_clustered), None)
    return replace(same[0], clusters=known.clusters) if known else next(iter(same), None)


def _with_is_share(column: Column, items: dict[str, Items]) -> Column:
    """Return the column; with `is_share` false if a model scores an item below 0 or above 1."""
    is_within = all(each.values.min() >= 0 and each.values.max() <= 1 for each in items.values())
    return column if is_within else replace(column, is_share=False)


def _apart(scored: Scored, column: Column, items: Items | None) -> str:
    """Return why a model's score isn't compared (untrained head, missing items, other prompts), or empty."""
    if scored.score.note == UNTRAINED:
        return message("untrained head")
    if items is not None and len(items) != scored.score.num_items:
        return message("{count} of {total} items", count=len(items), total=scored.score.num_items)
    return apart(scored.score, column)


def _main(items: dict[str, Items], apart_of: dict[str, str]) -> tuple[str, ...]:
    """Return the largest group of models with equal items and prompts; models set apart are in no group."""
    groups: list[list[str]] = []
    for model in (model for model in items if not apart_of[model]):
        group = next((group for group in groups if items[group[0]].answers_same(items[model])), None)
        if group is None:
            groups.append([model])
        else:
            group.append(model)
    groups.sort(key=len, reverse=True)
    return tuple(groups[0]) if groups else ()


def _unlike(items: Items | None, first: Items, is_main: bool) -> str:
    """Say how many items a model shares with the main group; empty for its members and without items."""
    if is_main or items is None:
        return ""
    common = len(set(items.keys()) & set(first.keys()))
    if common == len(first) == len(items):
        return message("the same items in another order")
    return message("{count} of {total} items asked alike", count=common, total=len(first))


def _agreements(
    column: ScoredColumn, chosen: dict[str, Scored], items: dict[str, Items]
) -> dict[str, tuple[int, int]]:
    """Compare each merged model's answers with its adapter's, if one run has both.

    Returns:
        Key of the merged model -> number of items answered otherwise, number of items compared.
    """
    by_run = {(each.run.label, each.name): each.model for each in chosen.values()}
    found: dict[str, tuple[int, int]] = {}
    for (label, name), merged in by_run.items():
        adapter = by_run.get((label, ADAPTER))
        if name != MERGED or adapter not in items or merged not in items:
            continue
        answers = dict(zip(items[adapter].keys(), items[adapter].predictions or [], strict=False))
        pairs = [
            (answers[key], answer)
            for key, answer in zip(items[merged].keys(), items[merged].predictions or [], strict=False)
            if key in answers
        ]
        if any(answer is not None for pair in pairs for answer in pair):
            found[merged] = (sum(first != second for first, second in pairs), len(pairs))
    return found
