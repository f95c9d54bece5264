"""Selects the items of a benchmark that are asked if `limit` is set."""

import hashlib
from collections.abc import Sequence

from workbench.config.benchmark import Sample


def sampled(benchmark: str, subset: str, ids: Sequence[str], limit: int | None, sample: Sample) -> list[int]:
    """Return the indices of the items that a limit selects, in ascending order.

    `hash` selects the items with the smallest SHA-256 of benchmark, subset and item id. The selection depends
    on neither seed nor model, and a smaller limit selects a subset of a larger limit's items.

    Args:
        benchmark: name of the benchmark.
        subset: name of the subset; "" without subsets.
        ids: ids of all items of the subset, in order.
        limit: number of items; None selects all.
        sample: `hash` or `first`.
    """
    indices = range(len(ids))
    if limit is None or limit >= len(ids):
        return list(indices)
    if sample is Sample.first:
        return list(indices[:limit])
    return sorted(sorted(indices, key=lambda index: _digest(benchmark, subset, ids[index]))[:limit])


def _digest(benchmark: str, subset: str, item: str) -> bytes:
    return hashlib.sha256("\0".join((benchmark, subset, item)).encode("utf-8")).digest()
