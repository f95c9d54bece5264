"""Computes standard errors and confidence intervals of single scores from the scores of their items.

Resampling uses its own random generator with a fixed seed, so the same
scores always give the same interval.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import special

from workbench.statistics.clusters import Labels, cluster_codes, clustered_error

Interval = tuple[float, float]
_SEED = 20230501
_CELLS = 4_000_000
"""Maximum resampled values in memory at a time: 32 MB of indices."""
_FEW = 8
"""Scores with at most so many distinct values, such as right and wrong, are resampled as counts of these."""


def mean(scores: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one score."""
    return math.fsum(scores) / len(scores)


def stderr(scores: Sequence[float]) -> float:
    """Return the standard error of the mean, from the sample standard deviation; 0 for a single item."""
    if len(scores) < 2:
        return 0.0
    centre = mean(scores)
    variance = math.fsum((score - centre) ** 2 for score in scores) / (len(scores) - 1)
    return math.sqrt(variance / len(scores))


def interval(scores: Sequence[float], confidence: float = 0.95, samples: int = 2000) -> Interval:
    """Return the interval (low, high) of the mean: Wilson's if every score is 0 or 1, else the bootstrap's.

    `confidence` is the interval's coverage, `samples` the number of bootstrap samples.
    """
    if is_binary(scores):
        return wilson(sum(scores), len(scores), confidence)
    return bootstrap(scores, confidence, samples)


def is_binary(scores: Sequence[float]) -> bool:
    """Return whether all scores are 0 or 1, that is wrong or right."""
    return all(score in (0.0, 1.0) for score in scores)


def wilson(successes: float, total: float, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval of the proportion successes / total; neither need be an integer.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    return _wilson(successes / total, total, NormalDist().inv_cdf(0.5 + confidence / 2))


def _wilson(share: float, total: float, z: float) -> Interval:
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap(scores: Sequence[float], confidence: float = 0.95, samples: int = 2000) -> Interval:
    """Return the percentile bootstrap interval of the mean, from `samples` resamples of the scores."""
    means = _resampled_means(np.asarray(scores, dtype=np.float64), samples)
    return _percentiles(means, confidence)


def macro_stderr(subsets: Mapping[str, Sequence[float]]) -> float:
    """Return the standard error of the mean of subset means; subsets are fixed, their items random.

    A subset of one item gets the variance of all items, because its own is unknown.

    Args:
        subsets: Subset -> scores of its items.
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

    Args:
        subsets: Subset -> scores of its items.
        confidence: Coverage of the interval.
        samples: Number of bootstrap samples.
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
    subset of one item is resampled from all items. Arguments are those of `macro_interval`.
    """
    all_scores = [score for scores in subsets.values() for score in scores]
    total = np.zeros(samples)
    for stream, scores in enumerate(subsets.values()):
        population = np.asarray(all_scores if len(scores) == 1 else scores, dtype=np.float64)
        deviations = _resampled_means(population, samples, stream, len(scores)) - population.mean()
        total += mean(scores) + deviations * math.sqrt(len(population) / max(1, len(population) - 1))
    low, high = _percentiles(total / len(subsets), confidence)
    return max(low, min(all_scores)), min(high, max(all_scores))


def cluster_stderr(scores: Sequence[float], clusters: Labels) -> float:
    """Return the standard error of the mean where items of a cluster are correlated, clusters independent.

    `clusters` has a label for each item, equal within a cluster.

    Source: K.-Y. Liang and S. Zeger, Longitudinal data analysis using generalized linear models,
        Biometrika 73, 1986, with the factor G / (G - 1) for G clusters.
    """
    values = np.asarray(scores, dtype=np.float64)
    return clustered_error(_cluster_sums(values, clusters))


def cluster_interval(scores: Sequence[float], clusters: Labels, confidence: float = 0.95) -> Interval:
    """Return the interval of the mean where items of a cluster are correlated, clusters independent.

    Quantiles are Student's with G - 1 degrees of freedom for G clusters, `clusters` having a label for each
    item. For scores of 0 and 1 it is Wilson's interval for the number of independent items that have the same
    standard error; if all items score the same, for G items.

    Source: C. Franco and others, Comparative study of confidence intervals for proportions in complex sample
        surveys, Journal of Survey Statistics and Methodology 7, 2019.
    """
    values = np.asarray(scores, dtype=np.float64)
    sums = _cluster_sums(values, clusters)
    value, error, count = float(values.mean()), clustered_error(sums), len(sums)
    quantile = float(special.stdtrit(max(1, count - 1), 0.5 + confidence / 2))  # of Student's t
    if not is_binary(scores):
        return value - quantile * error, value + quantile * error
    effective = value * (1 - value) / error**2 if error else count
    return _wilson(value, effective, quantile)


def error_and_interval(
    subsets: Mapping[str, Sequence[float]], clusters: Sequence[str], confidence: float = 0.95
) -> tuple[float, Interval]:
    """Return standard error and interval of the mean of subset means; of a single subset, of its items' mean.

    Args:
        subsets: Subset -> scores of its items.
        clusters: Each item's cluster, empty for an independent item; ignored with several subsets.
        confidence: Coverage of the interval.
    """
    if len(subsets) > 1:
        return macro_stderr(subsets), macro_interval(subsets, confidence)
    [scores] = subsets.values()
    if any(clusters):
        labels = [cluster or (number,) for number, cluster in enumerate(clusters)]
        return cluster_stderr(scores, labels), cluster_interval(scores, labels, confidence)
    return stderr(scores), interval(scores, confidence)


def _cluster_sums(values: NDArray[np.float64], clusters: Labels) -> NDArray[np.float64]:
    """Return for each cluster the sum of its items' (score - mean) / number of all items."""
    deviations = (values - values.mean()) / len(values)
    return np.bincount(cluster_codes(clusters, len(values)), weights=deviations).astype(np.float64)


def _resampled_means(
    values: NDArray[np.float64], samples: int, stream: int = 0, count: int | None = None
) -> NDArray[np.float64]:
    """Return the means of `samples` bootstrap samples of `values`.

    Each sample draws `count` values with replacement; None: as many as there are.
    """
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
