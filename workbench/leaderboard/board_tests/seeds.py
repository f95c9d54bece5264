"""Compares models that were trained with several seeds with their parent, as checkpoints and as a recipe."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.leaderboard.board import BoardFamily, Model, SeedGroup
from workbench.leaderboard.board_tests.family import level
from workbench.leaderboard.board_tests.verdicts import verdict_on
from workbench.leaderboard.items.metric_kinds import MetricKind
from workbench.leaderboard.items.outcomes import Answered
from workbench.statistics.paired import PairedTest
from workbench.statistics.seeds import FEWEST_SEEDS, SeedTests, compare_seeds

DESCRIPTIVE = "descriptive"
"""Verdict on a recipe with fewer than 5 seeds."""

TESTS = 2
"""Number of tests per recipe and column: one of these checkpoints, one of the recipe."""


@dataclass(frozen=True)
class Recipe:
    """Models whose trainings differ only in the seed."""

    name: str
    models: tuple[str, ...]
    parent: str
    """Key of the model that all were trained from; empty if it isn't on the board."""

    def columns(self, columns: Sequence[Answered]) -> list[Answered]:
        """Return those of `columns` in which all models of the recipe answered the same items.

        Only columns whose metric is a mean of item scores count.
        """
        return [
            column
            for column in columns
            if column.kind is MetricKind.mean and set(self.models) <= set(column.main)
        ]


def recipes(models: Sequence[Model]) -> list[Recipe]:
    """Group the models on the board by recipe; return the recipes with two or more seeds."""
    groups: dict[str, list[Model]] = {}
    for model in models:
        if model.recipe_key:
            groups.setdefault(model.recipe_key, []).append(model)
    return [
        Recipe(_name(group), tuple(model.key for model in group), group[0].parent or "")
        for group in groups.values()
        if len({model.facts.get("seed") for model in group}) > 1
    ]


def _name(models: Sequence[Model]) -> str:
    """Return the first model's name with its seed replaced by all seeds, as in `lora · seeds 1, 2, 3`."""
    seeds = ", ".join(str(model.facts.get("seed")) for model in models)
    text = models[0].name.replace(f" · seed {models[0].facts.get('seed')}", "")
    return f"{text} · seeds {seeds}"


def num_tests(seeded: Sequence[Recipe], columns: Sequence[Answered]) -> int:
    """Return the number of tests of recipes against their parents, which count in the board's family.

    There are two for each recipe and column (`Recipe.columns`) in which the parent has the same items.
    """
    return TESTS * sum(
        recipe.parent in column.main for recipe in seeded for column in recipe.columns(columns)
    )


def seed_groups(
    seeded: Sequence[Recipe], columns: Sequence[Answered], family: BoardFamily
) -> list[SeedGroup]:
    """Return each recipe's mean score, with its interval, in each of its columns (`Recipe.columns`).

    If the parent answered the column's items too, also test the recipe against it.
    """
    return [_group(recipe, column, family) for recipe in seeded for column in recipe.columns(columns)]


def _group(recipe: Recipe, column: Answered, family: BoardFamily) -> SeedGroup:
    scores = np.array([column.items[model].values for model in recipe.models])
    alone = _compared(np.zeros_like(scores), scores, column, 0.05)
    seeds_error = float(np.std([column.cells[model].score.value for model in recipe.models], ddof=1))
    parent = recipe.parent if recipe.parent in column.main else ""
    against = None
    if parent:
        # The parent has no seeds: as many copies of it add no variance between seeds.
        copies = np.repeat(column.items[parent].values[None, :], len(scores), axis=0)
        against = _compared(copies, scores, column, level(family))
    interval = _interval(alone)
    return SeedGroup(
        name=recipe.name,
        models=recipe.models,
        column=column.column.key,
        mean=alone.checkpoints.difference,
        low=interval[0],
        high=interval[1],
        seed_stderr=seeds_error / math.sqrt(len(scores)),
        item_stderr=alone.checkpoints.stderr,
        against=parent,
        checkpoints_verdict=_verdict(against.checkpoints, column, family) if against else "",
        recipe_verdict=_recipe_verdict(against, column, family, len(scores)),
    )


def _compared(
    first: NDArray[np.float64], second: NDArray[np.float64], column: Answered, alpha: float
) -> SeedTests:
    return compare_seeds(first, second, alpha=alpha, clusters=column.clusters, subsets=column.subsets)


def _interval(alone: SeedTests) -> tuple[float, float]:
    """Return the 95% interval of a recipe's mean score.

    If the test of the recipe has no interval, the standard error over items alone gives one.
    """
    recipe, value = alone.recipe, alone.checkpoints.difference
    if math.isnan(recipe.low):
        margin = 1.96 * alone.checkpoints.stderr
        return value - margin, value + margin
    return recipe.low, recipe.high


def _verdict(test: PairedTest, column: Answered, family: BoardFamily) -> str:
    return verdict_on(test, family.num_comparisons, lower_is_better=column.column.lower_is_better).verdict


def _recipe_verdict(against: SeedTests | None, column: Answered, family: BoardFamily, num_seeds: int) -> str:
    if num_seeds < FEWEST_SEEDS:
        return DESCRIPTIVE
    return _verdict(against.recipe, column, family) if against else ""
