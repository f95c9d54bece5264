"""Bounds how many items give another answer when asked again, from a random sample of them."""

from scipy.stats import hypergeom


def most_that_differ(
    num_sampled: int, num_total: int, num_differing: int = 0, *, confidence: float = 0.95
) -> int:
    """Return an upper bound of how many of all items differ, given how many of a simple random sample do.

    If all 200 sampled items are equal, at most 171 of 11,582 items differ, with 95% confidence.

    Args:
        num_sampled: Items of the sample.
        num_total: All items.
        num_differing: Items of the sample that differ.
        confidence: Confidence of the upper bound. The bound is the smallest number of differing items at
            which the sample has at most `num_differing` of them with a chance of at most 1 - confidence
            (hypergeometric distribution).
    """
    low, high = num_differing, num_total - (num_sampled - num_differing)
    while low < high:  # the more items differ, the smaller the chance of so few in the sample
        middle = (low + high) // 2
        if hypergeom.cdf(num_differing, num_total, middle, num_sampled) > 1 - confidence:
            low = middle + 1
        else:
            high = middle
    return low
