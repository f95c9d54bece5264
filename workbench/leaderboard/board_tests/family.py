"""Plans the pairs of models that a board compares, and tests each pair on the items that both answered."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.config.leaderboard import FamilyKind, LeaderboardConfig
from workbench.config.names import BASE
from workbench.errors import ConfigError
from workbench.leaderboard.board import UNTESTED, BoardFamily, Difference, Model
from workbench.leaderboard.board_tests.verdicts import as_difference, exact_tests
from workbench.leaderboard.items.metric_kinds import MetricKind, label_texts, sizes
from workbench.leaderboard.items.outcomes import HEAD, Answered, cluster_codes
from workbench.shown import listed, message
from workbench.statistics import family as families
from workbench.statistics.binary_pairs import count_flips
from workbench.statistics.label_metrics import compare_labels
from workbench.statistics.paired import PairedTest, compare_paired
from workbench.statistics.ratio import compare_ratio

Pair = tuple[str, str]
"""Keys of two models; a difference is the second model's score minus the first's."""

TESTED = (MetricKind.mean, MetricKind.alone, MetricKind.labels, MetricKind.ratio)
"""Kinds of metrics that are tested."""

ONLY_MICRO = (MetricKind.labels, MetricKind.ratio)
"""Kinds of metrics that have no test if they are averaged over subsets."""

NOTHING_IN_COMMON = message("no item and prompt in common")
NOT_COMPUTED = message("no test for this metric: it isn't computed from its items")


@dataclass(frozen=True)
class Plan:
    """The pairs of models to compare in each column and mean in which both have a score."""

    kind: str
    """pairs, reference or names, as in `BoardFamily`."""
    reference: str
    """Key of the model that all others are compared with; empty unless `kind` is reference."""
    pairs: list[Pair]


def plan(models: Sequence[Model], config: LeaderboardConfig) -> Plan:
    """Return the pairs of models that the configuration asks for, in the order of `models`.

    Without `leaderboard.reference`, the reference is the model from which most others were made.

    Raises:
        ConfigError: No model has the name in `leaderboard.reference`, or a name in `leaderboard.names`.
    """
    kind = config.family.name
    if config.family is FamilyKind.auto:
        kind = families.default_kind(len(models))
    names = [model.name for model in models]
    reference = _index(names, config.reference, "leaderboard.reference") if config.reference else None
    if reference is None:
        reference = _usual_reference(models)
    chosen = [_index(names, name, "leaderboard.names") for name in config.names if kind == "names"]
    indices = families.pairs_of(len(models), kind, reference=reference, chosen=chosen)
    is_reference = kind == "reference" and bool(models)
    return Plan(
        kind=kind,
        reference=models[reference].key if is_reference else "",
        pairs=[(models[i].key, models[j].key) for i, j in indices],
    )


def _index(names: Sequence[str], name: str, key: str) -> int:
    if name not in names:
        known = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
        raise ConfigError(f"{key}: no row is named {name!r} (known: {known})")
    return names.index(name)


def _usual_reference(models: Sequence[Model]) -> int:
    """Return the index of the model from which most models on the board were made; 0 without models.

    Of models with equally many, a base goes first, then the model that most runs scored, then the first.
    """
    children = Counter(model.parent for model in models if model.parent)
    order = range(len(models))
    return max(
        order,
        key=lambda index: (
            children[models[index].key],
            models[index].role == BASE,
            len(models[index].sources),
            -index,
        ),
        default=0,
    )


def testable(answered: Answered, pair: Pair) -> bool:
    """Return whether two models can be tested in a column; a testable pair is one comparison of the family.

    Both must have items that agree with their scores, at least one of them asked by the same prompt, and not
    both an untrained head. The metric must be computed from items (`TESTED`), and without a macro average if
    it isn't a mean of items (`ONLY_MICRO`).
    """
    if not set(pair) <= answered.items.keys() or answered.kind not in TESTED:
        return False
    if set(pair) & answered.problems.keys() or set(pair) <= answered.untrained:
        return False
    if answered.kind in ONLY_MICRO and answered.column.average == "macro":
        return False
    return set(pair) <= set(answered.main) or _common(answered, pair)[0].size > 0


def of_column(answered: Answered, pairs: Sequence[Pair], family: BoardFamily) -> list[Difference]:
    """Return a difference for each of `pairs` whose models both have a score in the column, in this order.

    A pair that isn't `testable` gets the verdict `UNTESTED`, and the reason as its `problem`.
    """
    both = [pair for pair in pairs if set(pair) <= answered.cells.keys()]
    tested = [pair for pair in both if testable(answered, pair)]
    differences = _flips(answered, [pair for pair in tested if set(pair) <= set(answered.main)], family)
    for pair in tested:
        if pair not in differences:
            differences[pair] = _difference(answered, pair, _tested(answered, pair, level(family)), family)
    return [differences.get(pair) or _untested(answered, pair, family) for pair in both]


def level(family: BoardFamily) -> float:
    """Return the significance level of a single test, so that the whole family keeps `family.alpha`."""
    return families.level(family.alpha, family.num_comparisons)


def _untested(answered: Answered, pair: Pair, family: BoardFamily) -> Difference:
    problems = [answered.problems[model] for model in pair if model in answered.problems]
    is_macro = answered.column.average == "macro"
    if answered.kind not in TESTED or (is_macro and answered.kind in ONLY_MICRO):
        problems.append(NOT_COMPUTED)
    first, second = (answered.cells[model].score.value for model in pair)
    is_alike = not any(answered.cells[model].apart for model in pair)
    return Difference(
        first=pair[0],
        second=pair[1],
        column=answered.column.key,
        value=second - first if is_alike else None,
        low=None,
        high=None,
        p_value=None,
        p_adjusted=None,
        family=family.num_comparisons,
        test="",
        num_pairs=0,
        num_clusters=0,
        gained=0,
        lost=0,
        detectable=None,
        verdict=UNTESTED,
        problem=listed(list(dict.fromkeys(problems)) or [NOTHING_IN_COMMON]),
    )


def _flips(answered: Answered, pairs: Sequence[Pair], family: BoardFamily) -> dict[Pair, Difference]:
    """Return pair -> difference, with all pairs of a column tested at once by the exact McNemar test.

    Empty unless all items are independent and either right or wrong, and the score is their mean.
    """
    first, column = answered.first, answered.column
    if first is None or column.average == "macro" or answered.kind is not MetricKind.mean or not pairs:
        return {}
    if answered.clusters is not None:
        return {}
    models = sorted({model for pair in pairs for model in pair}, key=answered.main.index)
    values = np.array([answered.items[model].values for model in models])
    if not np.isin(values, (0.0, 1.0)).all():
        return {}
    row_of = {model: row for row, model in enumerate(models)}
    rows, columns = (np.array([row_of[pair[side]] for pair in pairs]) for side in (0, 1))
    counts = count_flips(values)
    gained, lost = counts.gained[rows, columns], counts.lost[rows, columns]
    tests = exact_tests(gained, lost, len(first), level(family))
    return {pair: _difference(answered, pair, test, family) for pair, test in zip(pairs, tests, strict=True)}


def _common(answered: Answered, pair: Pair) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return index arrays into the first and the second model's items: the items with equal id and prompt."""
    first, second = (answered.items[model] for model in pair)
    if first.answers_same(second):
        every = np.arange(len(first))
        return every, every
    places = {key: index for index, key in enumerate(second.keys())}
    both = [(index, places[key]) for index, key in enumerate(first.keys()) if key in places]
    left, right = zip(*both, strict=True) if both else ((), ())
    return np.array(left, dtype=np.intp), np.array(right, dtype=np.intp)


def _tested(answered: Answered, pair: Pair, alpha: float) -> PairedTest:
    """Test the difference of two models by the column's metric, on their common items."""
    left, right = _common(answered, pair)
    one, other = (answered.items[model] for model in pair)
    clusters = _clusters(answered, pair, left, right)
    first, second = one.values[left], other.values[right]
    if answered.kind is MetricKind.labels:
        return compare_labels(
            answered.column.metric,
            _taken(one.targets, left),
            _taken(one.predictions, left),
            _taken(other.predictions, right),
            alpha=alpha,
            clusters=clusters,
            positive="1",
        )
    if answered.kind is MetricKind.ratio:
        before, after = (-nats / math.log(2) for nats in (first, second))
        per = sizes(one, answered.column.metric)[left]
        return compare_ratio(before, after, per, alpha=alpha, clusters=clusters)
    is_macro = answered.column.average == "macro"
    subsets = np.array(one.subsets.to_pylist(), dtype=object)[left] if is_macro else None
    return compare_paired(first, second, alpha=alpha, clusters=clusters, subsets=subsets)


def _clusters(
    answered: Answered, pair: Pair, left: NDArray[np.intp], right: NDArray[np.intp]
) -> NDArray[np.int32] | None:
    """Return the cluster number of each common item; None if neither model's items have clusters."""
    if answered.clusters is not None and set(pair) <= set(answered.main):
        return answered.clusters[left]
    for model, indices in zip(pair, (left, right), strict=True):
        if answered.items[model].is_clustered:
            return cluster_codes(answered.items[model])[indices]
    return None


def _taken(labels: list[Any] | None, indices: NDArray[np.intp]) -> list[str]:
    texts = label_texts(labels)
    return [texts[index] for index in indices]


def _difference(answered: Answered, pair: Pair, test: PairedTest, family: BoardFamily) -> Difference:
    column = answered.column
    return as_difference(
        test,
        pair,
        column.key,
        family,
        lower_is_better=column.lower_is_better,
        problem=HEAD if set(pair) & answered.untrained else None,
    )
