"""Which items of a benchmark a limit takes."""

import hashlib
from collections.abc import Sequence

from workbench.config.benchmark import Sample


def sampled(benchmark: str, subset: str, ids: Sequence[str], limit: int | None, sample: Sample) -> list[int]:
    """The numbers of the items that are asked, in their order.

    `hash` takes the items with the smallest SHA-256 of benchmark, subset and item id. That depends on neither
    seed nor model, and a smaller limit takes some of the items that a larger one takes.

    Args:
        benchmark: its name.
        subset: its name; "" where there is none.
        ids: of all items of the subset, in order.
        limit: how many are taken; None takes all.
        sample: hash or first.
    """
    numbers = range(len(ids))
    if limit is None or limit >= len(ids):
        return list(numbers)
    if sample is Sample.first:
        return list(numbers[:limit])
    return sorted(sorted(numbers, key=lambda number: _digest(benchmark, subset, ids[number]))[:limit])


def _digest(benchmark: str, subset: str, item: str) -> bytes:
    return hashlib.sha256("\0".join((benchmark, subset, item)).encode("utf-8")).digest()
