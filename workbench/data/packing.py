"""Packs texts into rows, best fit first, and numbers positions so that attention stays within a text."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import cast

from workbench.config.names import IGNORED
from workbench.data.example import Example, predictable
from workbench.errors import DataError


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack items into few bins with a total length of at most `capacity` each.

    Items are placed from the longest to the shortest, each into the fullest bin with enough room. The result
    is deterministic.

    Source: best-fit decreasing, Johnson 1973; for training rows, Ding et al., arXiv:2404.10830.

    Args:
        lengths: Lengths of the items, none above `capacity`.
        capacity: Largest total length of a bin.

    Returns:
        For each bin the sorted indices of its items; bins are sorted by their first index.
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


def packed(examples: Sequence[Example], max_length: int) -> Iterator[Example]:
    """Yield examples that each concatenate some of the given ones, with at most `max_length` tokens each.

    Best-fit packing (see `best_fit`) keeps their number small. Each given example is used once, uncut; none
    may be longer than `max_length`, and all must have a label per token.
    """
    for items in best_fit([len(example.input_ids) for example in examples], max_length):
        group = [examples[item] for item in items]
        yield Example(
            [token for example in group for token in example.input_ids],
            [label for example in group for label in cast(list[int], example.labels)],
            ", ".join(dict.fromkeys(example.where for example in group)),
            [length for example in group for length in example.lengths or [len(example.input_ids)]],
        )


def check_packed(examples: Sequence[Example], packed_examples: Sequence[Example]) -> None:
    """Check that packing kept all labels: each occurs equally often in the examples before and after.

    Raises:
        DataError: The counts of the labels differ.
    """
    labels, packed_labels = Counter[float](), Counter[float]()
    for counts, rows in ((labels, examples), (packed_labels, packed_examples)):
        for example in rows:
            counts.update(cast(list[int], predictable(example)))
    if labels != packed_labels:
        num_unmasked = [counts.total() - counts[IGNORED] for counts in (labels, packed_labels)]
        raise DataError(
            f"data.packing: packed rows have {num_unmasked[1]:,} unmasked tokens, their examples "
            f"{num_unmasked[0]:,} (set data.packing=false)"
        )


def positions(lengths: Sequence[int]) -> list[int]:
    """Return position ids of concatenated texts, from their lengths: [3, 2] -> [0, 1, 2, 0, 1]."""
    return [position for length in lengths for position in range(length)]


def cut(rows: Sequence[int], size: int) -> list[list[int]]:
    """Split a list of numbers into chunks of `size` numbers; the last chunk may be shorter."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]
