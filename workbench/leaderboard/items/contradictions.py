"""Finds contradictions between runs of the same model: other item scores although the prompts are equal."""

import math

from workbench.leaderboard.items.answers import Items
from workbench.leaderboard.items.columns import Scored, ScoredColumn, by_model
from workbench.leaderboard.items.index import ItemIndex
from workbench.leaderboard.items.metric_kinds import kind_of
from workbench.leaderboard.items.reading import read
from workbench.shown import message


def contradictions(
    column: ScoredColumn,
    chosen: dict[str, Scored],
    items: dict[str, Items],
    names: dict[str, str],
    index: ItemIndex,
) -> list[str]:
    """Return an alarm for each run that scored a model's items otherwise than the run that is shown.

    Runs that drew different numbers of answers to an item aren't compared: their means differ by chance.

    Args:
        column: The column, with the scores of all runs.
        chosen: Key of a model -> its score that is shown.
        items: Key of a model -> its items in the run that is shown, if they can be read.
        names: Key of a model -> its name, for the alarms.
        index: Cache of items.
    """
    alarms = []
    for model, scored in by_model(column.scored).items():
        used = chosen[model]
        for other in scored:
            if other is used or model not in items or _same_file(used, other):
                continue
            found = read(other, kind_of(other.score), index)
            if found.is_alarm:
                alarms.append(
                    message(
                        "{model} on {column}, {run}: {problem}",
                        model=names[model],
                        column=column.column.label,
                        run=other.run.label,
                        problem=found.problem,
                    )
                )
            if found.items is None or found.problem or used.score.num_samples != other.score.num_samples:
                continue
            count, total, first = _differing(items[model], found.items)
            if count:
                alarms.append(
                    message(
                        "{model} on {column}: {count} of {total} items score otherwise in {other} than in "
                        "{run}, though model and prompts are the same (first: item {item})",
                        model=names[model],
                        column=column.column.label,
                        count=count,
                        total=total,
                        other=other.run.label,
                        run=used.run.label,
                        item=repr(first),
                    )
                )
    return alarms


def _same_file(one: Scored, other: Scored) -> bool:
    """Return whether two runs have equal predictions files, by the checksums in run.json."""
    outputs = []
    for each in (one, other):
        entry = each.run.steps.get(f"evaluate/{each.name}/{each.score.benchmark}")
        outputs.append(entry.get("output") if isinstance(entry, dict) else None)
    return outputs[0] is not None and outputs[0] == outputs[1]


def _differing(one: Items, other: Items) -> tuple[int, int, str]:
    """Return three values: number of common items with unequal scores, number of common items, first such id.

    Common items have the same id and prompt.
    """
    values = dict(zip(other.keys(), other.values.tolist(), strict=True))
    pairs = [
        (key, value) for key, value in zip(one.keys(), one.values.tolist(), strict=True) if key in values
    ]
    differing = [
        key for key, value in pairs if not math.isclose(value, values[key], rel_tol=1e-3, abs_tol=1e-6)
    ]
    return len(differing), len(pairs), differing[0][0] if differing else ""
