"""Reads the items of one score, and checks that they give this score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.config.names import ADAPTER, MERGED, UNTRAINED
from workbench.errors import DataError
from workbench.leaderboard.items.answers import Items, imported_items, items_of, read_items
from workbench.leaderboard.items.columns import Scored
from workbench.leaderboard.items.index import ItemIndex
from workbench.leaderboard.items.metric_kinds import MetricKind, columns_of, recomputed
from workbench.shown import Message, message, message_of

TOLERANCE = 1e-6
"""Relative difference between a score and its recomputed value up to which it counts as rounding."""

MISSING = message("the predictions are missing")


@dataclass(frozen=True)
class Reading:
    """Result of reading a score's items: the items, and the problem that keeps them from being compared.

    There are both if the number of items isn't that of the score; otherwise one of the two is empty.
    """

    items: Items | None = None
    problem: str = ""
    is_alarm: bool = False
    """Whether the problem is that the items contradict the score."""


def read(scored: Scored, kind: MetricKind, index: ItemIndex) -> Reading:
    """Read the items of a score, and check their number and, if the metric is computable, its value.

    Unreadable items are a `problem` of the result, not an error.

    Args:
        scored: The score, with its run.
        kind: Kind of the metric; unknown: the value isn't recomputed.
        index: Cache, which is used and filled if only ids and scores are needed.
    """
    score = scored.score
    columns = columns_of(score)
    if kind in (MetricKind.mean, MetricKind.alone) and _needs_answers(scored):
        columns = (*columns, "prediction", "target")
    try:
        items = _items(scored, columns, index)
        if items is None:
            return Reading(problem=MISSING)
    except DataError as error:
        reason = message_of(error)
        if not isinstance(reason, Message):
            reason = reason.replace(f"{scored.run.files.path}/", "")
        return Reading(problem=message("predictions can't be read: {reason}", reason=reason))
    if len(items) != score.num_items:
        text = message(
            "its file of predictions has {count} of the {total} items that it scored",
            count=len(items),
            total=score.num_items,
        )
        return Reading(items, text, is_alarm=True)
    value = None if kind is MetricKind.unknown else recomputed(items, score)
    if value is not None and not math.isclose(value, score.value, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        text = message(
            "results.json says {metric} {score}, its file of predictions {value}",
            metric=score.metric,
            score=f"{score.value:.6g}",
            value=f"{value:.6g}",
        )
        return Reading(problem=text, is_alarm=True)
    return Reading(items)


def _items(scored: Scored, columns: Sequence[str], index: ItemIndex) -> Items | None:
    """Return a score's items from memory, from an import, or from its predictions file; None: no file.

    Raises:
        DataError: The items can't be read, or their file was changed.
    """
    run, score = scored.run, scored.score
    in_memory, imported = run.answers.get((scored.name, score.benchmark)), run.items.get(score.benchmark)
    if in_memory is not None:
        return items_of(in_memory, score.metric, columns)
    if imported is not None:
        return imported_items(imported, score.metric, score.benchmark)
    file = run.file_of(scored.name, score.benchmark)
    if file is None:
        return None
    path, digest = file
    if columns:
        return read_items(path, score.metric, columns)
    items = index.get(digest, score.metric) or read_items(path, score.metric)
    index.put(digest, score.metric, items)
    return items


def _needs_answers(scored: Scored) -> bool:
    """Return whether the answers must be read too, not only their scores.

    They are compared between an adapter and its merged model, and for an untrained head with the most
    frequent class.
    """
    models = {score.model for score in scored.run.scores if score.benchmark == scored.score.benchmark}
    return {ADAPTER, MERGED} <= models or scored.score.note == UNTRAINED
