"""Computes standard errors, confidence intervals and tests of scores, without torch.

Every function takes per-item scores. Resampling uses its own random generator with a fixed seed, so the same
scores always give the same interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

Interval = tuple[float, float]
_SEED = 20230501
_CELLS = 4_000_000
"""Resampled values in memory at a time: 32 MB of indices."""
_FEW = 8
"""Up to so many distinct values, such as right and wrong, are resampled by their counts."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Paired comparison of two models; `difference` is the second model's mean minus the first model's."""

    num_items: int
    difference: float
    stderr: float
    interval: Interval
    wins: int
    """Number of items on which the second model scores higher."""
    losses: int
    p_value: float
    """Two-sided: exact McNemar test if all scores are 0 or 1, else a sign-flip permutation test."""
    test: str
    effect: float
    """Mean difference divided by the standard deviation of the differences; 0 if no item differs, infinite if
    all items differ by the same amount."""
    detectable: float
    """Smallest true difference that these items detect at the 5% level with 80% power."""


def mean(scores: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return math.fsum(scores) / len(scores)


def stderr(scores: Sequence[float]) -> float:
    """Return the standard error of the mean, from the sample standard deviation; 0 for a single item."""
    if len(scores) < 2:
        return 0.0
    centre = mean(scores)
    variance = math.fsum((score - centre) ** 2 for score in scores) / (len(scores) - 1)
    return math.sqrt(variance / len(scores))


def interval(scores: Sequence[float], confidence: float = 0.95, samples: int = 2000) -> Interval:
    """Return the interval of the mean: Wilson's if every score is 0 or 1, else the bootstrap interval."""
    if is_binary(scores):
        return wilson(sum(scores), len(scores), confidence)
    return bootstrap(scores, confidence, samples)


def is_binary(scores: Sequence[float]) -> bool:
    """Return whether all scores are 0 or 1, that is wrong or right."""
    return all(score in (0.0, 1.0) for score in scores)


def wilson(successes: float, total: float, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval of a proportion.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap(scores: Sequence[float], confidence: float = 0.95, samples: int = 2000) -> Interval:
    """Return the percentile bootstrap interval of the mean."""
    means = _resampled_means(np.asarray(scores, dtype=np.float64), samples)
    return _percentiles(means, confidence)


def macro_stderr(subsets: Mapping[str, Sequence[float]]) -> float:
    """Return the standard error of the mean of subset means; subsets are fixed, their items random.

    A subset of one item gets the variance of all items, because its own is unknown.
    """
    all_scores = [score for scores in subsets.values() for score in scores]
    pooled = stderr(all_scores) ** 2 * len(all_scores)
    squares = [pooled if len(scores) == 1 else stderr(scores) ** 2 for scores in subsets.values()]
    return math.sqrt(math.fsum(squares)) / len(subsets)


def macro_interval(
    subsets: Mapping[str, Sequence[float]], confidence: float = 0.95, samples: int = 2000
) -> Interval:
    """Return the interval of the mean of subset means: Wilson's for scores of 0 and 1, else the bootstrap's.

    Wilson's interval uses the number of items whose plain mean has the same standard error.
    """
    if not is_binary([score for scores in subsets.values() for score in scores]):
        return macro_bootstrap(subsets, confidence, samples)
    value, error = mean([mean(scores) for scores in subsets.values()]), macro_stderr(subsets)
    count = len(subsets) ** 2 / math.fsum(1 / len(scores) for scores in subsets.values())
    if error and 0 < value < 1:
        count = value * (1 - value) / error**2
    return wilson(value * count, count, confidence)


def macro_bootstrap(
    subsets: Mapping[str, Sequence[float]], confidence: float = 0.95, samples: int = 2000
) -> Interval:
    """Return the bootstrap interval of the mean of subset means; items are resampled within their subset.

    The resampled deviations are scaled by sqrt(n / (n - 1)), because they are too small for few items; a
    subset of one item is resampled from all items.
    """
    all_scores = [score for scores in subsets.values() for score in scores]
    total = np.zeros(samples)
    for stream, scores in enumerate(subsets.values()):
        population = np.asarray(all_scores if len(scores) == 1 else scores, dtype=np.float64)
        deviations = _resampled_means(population, samples, stream, len(scores)) - population.mean()
        total += mean(scores) + deviations * math.sqrt(len(population) / max(1, len(population) - 1))
    low, high = _percentiles(total / len(subsets), confidence)
    return max(low, min(all_scores)), min(high, max(all_scores))


def compare(
    first: Sequence[float],
    second: Sequence[float],
    confidence: float = 0.95,
    samples: int = 10000,
    subsets: Sequence[str] | None = None,
) -> Comparison:
    """Compare two models' scores on the same items in the same order.

    Args:
        first: scores of the first model.
        second: scores of the second model.
        confidence: coverage of the interval.
        samples: number of bootstrap resamples and of sign flips.
        subsets: subset of each item, for the mean of subset means (macro); None for the mean of items.
    """
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} scores of the first model, {len(second)} of the second "
            "(a paired comparison needs the same items)"
        )
    differences = [b - a for a, b in zip(first, second, strict=True)]
    by_subset = _by_subset(differences, subsets or [""] * len(differences))
    has_equal_sizes = len(set(map(len, by_subset.values()))) == 1  # every item counts the same, macro or not
    binary = has_equal_sizes and is_binary(first) and is_binary(second)
    weights = [1 / (len(by_subset) * len(values)) for values in by_subset.values() for _ in values]
    flat = [difference for values in by_subset.values() for difference in values]
    error, spread = macro_stderr(by_subset), stderr(differences) * math.sqrt(len(differences))
    if not error and is_binary(first) and is_binary(second):
        error = 1 / len(differences)  # all items differ alike, or none does: as if one item didn't
    value = mean([mean(values) for values in by_subset.values()])
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Comparison(
        num_items=len(differences),
        difference=value,
        stderr=error,
        interval=_paired_interval(by_subset, is_binary(first) and is_binary(second), confidence, samples),
        wins=wins,
        losses=losses,
        p_value=mcnemar(wins, losses)
        if binary
        else sign_flip([d * w for d, w in zip(flat, weights, strict=True)], samples),
        test="mcnemar-exact" if binary else "sign-flip",
        effect=mean(differences) / spread if spread else math.copysign(math.inf, value) if value else 0.0,
        detectable=detectable_difference(1, error),
    )


def _by_subset(values: Sequence[float], subsets: Sequence[str]) -> dict[str, list[float]]:
    by_subset: dict[str, list[float]] = {}
    for value, subset in zip(values, subsets, strict=True):
        by_subset.setdefault(subset, []).append(value)
    return by_subset


def _paired_interval(
    by_subset: Mapping[str, Sequence[float]], binary: bool, confidence: float, samples: int
) -> Interval:
    """Return the bootstrap interval of the mean difference.

    If all differences of binary scores are equal, there is nothing to resample. Then the interval extends by
    the upper end of Wilson's interval for 0 of so many items; to both sides if no item differs.
    """
    distinct = {value for values in by_subset.values() for value in values}
    if binary and len(distinct) == 1:
        [value] = distinct
        upper = wilson(0, sum(map(len, by_subset.values())), confidence)[1]
        # Up to this share of items may differ otherwise; if all items won, a loss counts twice.
        return max(-1.0, value - (1 + abs(value)) * upper), min(1.0, value + (1 + abs(value)) * upper)
    if len(by_subset) > 1:
        return macro_bootstrap(by_subset, confidence, samples)
    [differences] = by_subset.values()
    return bootstrap(differences, confidence, samples)


def mcnemar(wins: int, losses: int) -> float:
    """Return the two-sided p-value of the exact McNemar test.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def sign_flip(differences: Sequence[float], samples: int = 2000) -> float:
    """Return the two-sided p-value of the paired permutation test: random signs of the differences."""
    values = np.asarray([d for d in differences if d], dtype=np.float64)
    if not len(values):
        return 1.0
    rng = np.random.default_rng(_SEED)
    observed = abs(values.sum()) * (1 - 1e-12)
    extreme = 0
    for size in _chunk_sizes(samples, len(values)):
        signs = rng.integers(0, 2, size=(size, len(values)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ values) >= observed).sum())
    return (extreme + 1) / (samples + 1)


def detectable_difference(num_items: int, spread: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest mean difference that a two-sided paired z-test detects.

    Args:
        num_items: number of pairs.
        spread: standard deviation of the differences.
        alpha: significance level, the share of false alarms.
        power: share of true differences that are detected.
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * spread / math.sqrt(num_items)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple tests by Holm's method, in the order given.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 1979.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def _resampled_means(
    values: NDArray[np.float64], samples: int, stream: int = 0, count: int | None = None
) -> NDArray[np.float64]:
    """Return the means of `count` values (None: len(values)), drawn with replacement."""
    rng = np.random.default_rng([_SEED, stream])
    count = count or len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW:  # then the number of draws of each value is enough
        draws = rng.multinomial(count, counts / len(values), size=samples)
        means: NDArray[np.float64] = draws @ distinct / count
        return means
    chunks = [
        values[rng.integers(0, len(values), size=(size, count))].mean(axis=1)
        for size in _chunk_sizes(samples, count)
    ]
    return np.concatenate(chunks)


def _chunk_sizes(samples: int, width: int) -> list[int]:
    size = max(1, min(samples, _CELLS // max(1, width)))
    return [min(size, samples - start) for start in range(0, samples, size)]


def _percentiles(values: NDArray[np.float64], confidence: float) -> Interval:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
