"""Several texts in one row, each seeing only itself: where they lie, and how they are put together."""

from collections import defaultdict
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of items whose lengths add up to at most `capacity`, few of them and nearly full.

    Longest first, each into the fullest bin that has room. The same lengths give the same bins.

    Source: best-fit decreasing, Johnson 1973; for training rows, Ding et al., arXiv:2404.10830.

    Args:
        lengths: None above `capacity`.
        capacity: Of a bin.

    Returns:
        The numbers of the items in each bin, in order; the bins in the order of their first items.
    """
    bins: list[list[int]] = []
    with_room: dict[int, list[int]] = defaultdict(list)
    rooms = 0  # bit r is set where a bin with room r is open, so that the least sufficient r is found at once
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        sufficient = rooms >> lengths[item]
        if sufficient:
            room = lengths[item] + (sufficient & -sufficient).bit_length() - 1
            chosen = with_room[room].pop()
            if not with_room[room]:
                rooms &= ~(1 << room)
        else:
            room, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(item)
        with_room[room - lengths[item]].append(chosen)
        rooms |= 1 << (room - lengths[item])
    return sorted((sorted(items) for items in bins), key=lambda items: items[0])


def positions(lengths: Sequence[int]) -> list[int]:
    """Position ids of texts that lie one behind the other: each counts from 0, and that tells them apart."""
    return [position for length in lengths for position in range(length)]


def cut(rows: Sequence[int], size: int) -> list[list[int]]:
    """The rows in pieces of `size`; the last may be shorter."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]
