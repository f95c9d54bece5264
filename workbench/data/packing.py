"""Packs texts into rows, and numbers their positions so that attention doesn't cross from text to text."""

from collections import defaultdict
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack items into few bins with a total length of at most `capacity` each.

    The longest item comes first, and goes into the fullest bin with enough room. The result is deterministic.

    Source: best-fit decreasing, Johnson 1973; for training rows, Ding et al., arXiv:2404.10830.

    Args:
        lengths: Lengths of the items, none above `capacity`.
        capacity: Largest total length of a bin.

    Returns:
        The indices of the items in each bin, in order; the bins in the order of their first items.
    """
    bins: list[list[int]] = []
    with_room: dict[int, list[int]] = defaultdict(list)
    rooms = 0  # bit r is set if a bin with room r is open; the lowest sufficient bit is the best fit
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
    """Return position ids of concatenated texts, from their lengths: [3, 2] -> [0, 1, 2, 0, 1]."""
    return [position for length in lengths for position in range(length)]


def cut(rows: Sequence[int], size: int) -> list[list[int]]:
    """Split a list of numbers into chunks of `size` numbers; the last chunk may be shorter."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]
