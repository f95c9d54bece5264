"""Shuffles the clusters of a benchmark's items, weights the items, and divides them into blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.config.benchmark import Average
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example
from workbench.statistics.clusters import item_weights
from workbench.statistics.sequential import permutation

FIRST_BLOCK = 64
"""Least number of items in a block; only the last block may have fewer."""
GROWTH = 4
"""A block has at least a quarter (1 / GROWTH) as many items as all earlier blocks together."""


@dataclass(frozen=True)
class ItemOrder:
    """All items of a benchmark in random order, the items of a cluster together."""

    examples: list[Example]
    weights: NDArray[np.float64]
    """Contribution of each item to the score."""
    ends: list[int]
    """Number of items up to the end of each cluster."""
    shares: NDArray[np.float64]
    """Sum of the weights of each cluster."""

    def blocks(self) -> list[int]:
        """Divide the ordered items into growing blocks of complete clusters.

        Returns, for each block, the number of clusters in it and all blocks before it.
        """
        stops, asked = [], 0
        for number, end in enumerate(self.ends, 1):
            if end - asked >= max(FIRST_BLOCK, asked // GROWTH) or end == len(self.examples):
                stops.append(number)
                asked = end
        return stops

    def sums(self, values: Sequence[float], num_clusters: int) -> NDArray[np.float64]:
        """Return the weighted sum of the values in each of the first `num_clusters` clusters.

        `values` has one value per item, in this order.
        """
        count = self.ends[num_clusters - 1]
        weighted = np.asarray(values[:count], dtype=np.float64) * self.weights[:count]
        return np.add.reduceat(weighted, [0, *self.ends[: num_clusters - 1]])


def ordered(benchmark: PreparedBenchmark, seed: int) -> ItemOrder:
    """Return a benchmark's items with the clusters shuffled by a seed, and each item's weight in the score.

    Items of a cluster stay together; an item without a cluster is a cluster of its own.
    """
    clusters: dict[str, list[int]] = {}
    for index, example in enumerate(benchmark.examples):
        clusters.setdefault(example.cluster or f"\0{index}", []).append(index)
    members = list(clusters.values())
    order = [members[number] for number in permutation(len(members), seed)]
    indices = [index for cluster in order for index in cluster]
    is_macro = benchmark.config.average is Average.macro
    subsets = [example.subset for example in benchmark.examples] if is_macro else None
    weights = item_weights(len(indices), subsets)[indices]
    ends = np.cumsum([len(cluster) for cluster in order])
    return ItemOrder(
        examples=[benchmark.examples[index] for index in indices],
        weights=weights,
        ends=[int(end) for end in ends],
        shares=np.add.reduceat(weights, [0, *ends[:-1]]),
    )
