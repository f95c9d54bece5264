"""Compares several seeds of one recipe with several of another: these checkpoints, and the recipes."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.errors import DataError
from workbench.shown import message
from workbench.statistics.clusters import Floats, Labels, cluster_codes, clustered_error, item_weights
from workbench.statistics.linearised import with_student
from workbench.statistics.paired import PairedTest, compare_paired

FEWEST_SEEDS = 5
DESCRIPTIVE = message("descriptive: fewer than 5 seeds a side")
NO_VARIANCE = message("the variance of seeds and items is estimated as 0")


@dataclass(frozen=True, kw_only=True)
class SeedTests:
    """Two tests of one difference: of these trained models, and of the recipes that trained them."""

    checkpoints: PairedTest
    """Whether these trained models differ; only the items are taken as random."""
    recipe: PairedTest
    """Whether other seeds would differ too; seeds and items are taken as random."""


def compare_seeds(
    first: ArrayLike,
    second: ArrayLike,
    *,
    alpha: float = 0.05,
    clusters: Labels | None = None,
    subsets: Labels | None = None,
) -> SeedTests:
    """Compare the mean scores of two recipes, each trained with several seeds.

    The variance of a recipe's mean over k seeds and n items is s²_seed / k + s²_item / n -
    s²_interaction / (k n), with Satterthwaite's degrees of freedom. With fewer than FEWEST_SEEDS seeds of
    either recipe, the test of the recipes has the `reason` DESCRIPTIVE; with a single seed, p-value and
    interval are NaN too.

    Args:
        first: The first recipe's scores, (seeds, items), or (items) of a single seed.
        second: The second recipe's scores; the number of seeds may differ, the items are the same.
        alpha: Level of each test.
        clusters: Label of each item's cluster; None: independent items.
        subsets: Subset of each item, for the mean of subset means.

    Raises:
        DataError: The recipes have different numbers of items, or `compare_paired` refuses the scores.

    Source: B. L. Welch, The generalization of Student's problem when several different population variances
        are involved, Biometrika 34, 1947.
    """
    before, after = (np.atleast_2d(np.asarray(scores, dtype=np.float64)) for scores in (first, second))
    if before.shape[1] != after.shape[1]:
        raise DataError(
            f"comparison of seeds: {before.shape[1]} items of the first recipe, "
            f"{after.shape[1]} of the second (a paired comparison needs the same items)"
        )
    checkpoints = compare_paired(
        before.mean(axis=0), after.mean(axis=0), alpha=alpha, clusters=clusters, subsets=subsets
    )
    num_items = before.shape[1]
    weight, codes = item_weights(num_items, subsets), cluster_codes(clusters, num_items)
    parts: list[tuple[float, float]] = [(checkpoints.stderr**2, checkpoints.num_clusters - 1)]
    for scores in (before, after):
        parts += _seed_parts(scores, weight, codes)
    fewest = min(len(before), len(after))
    return SeedTests(checkpoints=checkpoints, recipe=_recipe(checkpoints, parts, fewest))


def _seed_parts(scores: Floats, weight: Floats, codes: NDArray[np.int64]) -> list[tuple[float, float]]:
    """Return two terms of the variance of a recipe's mean, each (variance, degrees of freedom).

    The terms are the variance between seeds, and minus that of the interaction of seeds and items, which the
    variances of seeds and of items both contain. With one seed there are no terms.
    """
    num_seeds = len(scores)
    if num_seeds < 2:
        return []
    means = scores @ weight
    residuals = (scores - scores.mean(axis=0) - (means - means.mean())[:, None]) * weight
    sums = [np.bincount(codes, weights=row).astype(np.float64) for row in residuals]
    interaction = math.fsum(clustered_error(row) ** 2 for row in sums) / (num_seeds - 1) / num_seeds
    freedom = (num_seeds - 1) * (len(sums[0]) - 1)
    return [(float(means.var(ddof=1)) / num_seeds, num_seeds - 1), (-interaction, freedom)]


def _recipe(checkpoints: PairedTest, parts: list[tuple[float, float]], fewest: int) -> PairedTest:
    """Return the test of two recipes: the test of their checkpoints, with a variance that includes the seeds.

    `parts` are the terms of the variance, each (variance, degrees of freedom); `fewest` is the number of
    seeds of the recipe with fewer seeds.
    """
    variance = max(math.fsum(part for part, _ in parts), 0.0)
    draft = replace(checkpoints, stderr=math.sqrt(variance), test="recipe-t", reason="")
    if not variance or fewest < 2 or checkpoints.num_clusters < 2:
        reason = DESCRIPTIVE if fewest < FEWEST_SEEDS else NO_VARIANCE
        return replace(draft, low=math.nan, high=math.nan, p_value=math.nan, reason=reason)
    degrees = variance**2 / math.fsum(part**2 / freedom for part, freedom in parts if part)
    found = with_student(draft, degrees)
    return replace(found, reason=checkpoints.reason or ("" if fewest >= FEWEST_SEEDS else DESCRIPTIVE))
