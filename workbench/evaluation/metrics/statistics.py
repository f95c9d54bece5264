"""How sure a score is, and whether two scores differ; without torch.

Every function takes per-item scores. Random resampling uses a generator of its own with a fixed seed, so the
same scores always give the same interval.
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
"""Resampled values held at once: 32 MB of indices."""
_FEW = 8
"""Distinct values, such as right and wrong, that are resampled by their numbers."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same items: `difference` is the second's mean less the first's."""

    num_items: int
    difference: float
    stderr: float
    interval: Interval
    wins: int
    """Items on which the second scores higher."""
    losses: int
    p_value: float
    """Two-sided: exact McNemar where all scores are 0 or 1, else a sign-flip permutation test."""
    test: str
    effect: float
    """Mean difference over the standard deviation of the differences; 0 where nothing differs, infinite where
    all items differ alike."""
    detectable: float
    """Smallest true difference that these items would show at the 5% level with 80% power."""


def mean(scores: Sequence[float]) -> float:
    """Arithmetic mean."""
    return math.fsum(scores) / len(scores)


def stderr(scores: Sequence[float]) -> float:
    """Standard error of the mean, from the sample standard deviation; 0 for a single item."""
    if len(scores) < 2:
        return 0.0
    centre = mean(scores)
    variance = math.fsum((score - centre) ** 2 for score in scores) / (len(scores) - 1)
    return math.sqrt(variance / len(scores))


def interval(scores: Sequence[float], confidence: float = 0.95, samples: int = 2000) -> Interval:
    """Interval of the mean: Wilson's where every score is 0 or 1, else the bootstrap's."""
    if is_binary(scores):
        return wilson(sum(scores), len(scores), confidence)
    return bootstrap(scores, confidence, samples)


def is_binary(scores: Sequence[float]) -> bool:
    """Whether all scores are 0 or 1, that is right or wrong."""
    return all(score in (0.0, 1.0) for score in scores)


def wilson(successes: float, total: float, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap(scores: Sequence[float], confidence: float = 0.95, samples: int = 2000) -> Interval:
    """Percentile bootstrap interval of the mean."""
    means = _resampled_means(np.asarray(scores, dtype=np.float64), samples)
    return _percentiles(means, confidence)


def macro_stderr(subsets: Mapping[str, Sequence[float]]) -> float:
    """Standard error of the mean of subset means; the subsets are taken as fixed, their items as drawn.

    A subset of one item, which can't tell how its items vary, is given the variance of all items together.
    """
    together = [score for scores in subsets.values() for score in scores]
    pooled = stderr(together) ** 2 * len(together)
    squares = [pooled if len(scores) == 1 else stderr(scores) ** 2 for scores in subsets.values()]
    return math.sqrt(math.fsum(squares)) / len(subsets)


def macro_interval(
    subsets: Mapping[str, Sequence[float]], confidence: float = 0.95, samples: int = 2000
) -> Interval:
    """Interval of the mean of subset means: Wilson's where every score is 0 or 1, else the bootstrap's.

    Wilson's is that for the number of items whose plain mean would have the same standard error.
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
    """Bootstrap interval of the mean of subset means: items are resampled within their subset.

    The resampled deviations are enlarged by sqrt(n / (n - 1)), because those of few items are too small;
    subsets of one item deviate as all items together do.
    """
    together = [score for scores in subsets.values() for score in scores]
    total = np.zeros(samples)
    for number, scores in enumerate(subsets.values()):
        drawn_from = np.asarray(together if len(scores) == 1 else scores, dtype=np.float64)
        shift = _resampled_means(drawn_from, samples, number, len(scores)) - drawn_from.mean()
        total += mean(scores) + shift * math.sqrt(len(drawn_from) / max(1, len(drawn_from) - 1))
    low, high = _percentiles(total / len(subsets), confidence)
    return max(low, min(together)), min(high, max(together))


def compare(
    first: Sequence[float],
    second: Sequence[float],
    confidence: float = 0.95,
    samples: int = 10000,
    subsets: Sequence[str] | None = None,
) -> Comparison:
    """Paired comparison of two models' scores, item by item in the same order.

    Args:
        first: one model's scores.
        second: the other's.
        confidence: coverage of the interval.
        samples: bootstrap resamples and sign flips.
        subsets: of each item, where every subset is to count the same (macro); None: every item does.
    """
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} scores against {len(second)} (a paired comparison needs the same items)"
        )
    differences = [b - a for a, b in zip(first, second, strict=True)]
    parts = _by_subset(differences, subsets or [""] * len(differences))
    even = len({len(part) for part in parts.values()}) == 1  # every item counts the same, macro or not
    binary = even and is_binary(first) and is_binary(second)
    weights = [1 / (len(parts) * len(part)) for part in parts.values() for _ in part]
    flat = [difference for part in parts.values() for difference in part]
    error, spread = macro_stderr(parts), stderr(differences) * math.sqrt(len(differences))
    if not error and is_binary(first) and is_binary(second):
        error = 1 / len(differences)  # all differ alike, or none does: as if one item were otherwise
    value = mean([mean(part) for part in parts.values()])
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Comparison(
        num_items=len(differences),
        difference=value,
        stderr=error,
        interval=_paired_interval(parts, is_binary(first) and is_binary(second), confidence, samples),
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
    parts: dict[str, list[float]] = {}
    for value, subset in zip(values, subsets, strict=True):
        parts.setdefault(subset, []).append(value)
    return parts


def _paired_interval(
    parts: Mapping[str, Sequence[float]], binary: bool, confidence: float, samples: int
) -> Interval:
    """Bootstrap interval of the mean difference.

    Where all items differ alike there is nothing to resample: then, for right and wrong, as far as Wilson's
    interval of none in so many items reaches; where none differs, to both sides.
    """
    values = {value for part in parts.values() for value in part}
    if binary and len(values) == 1:
        [value] = values
        reach = wilson(0, sum(map(len, parts.values())), confidence)[1]
        # One item in `reach` may be otherwise; where all won, it would have lost, which counts twice.
        return max(-1.0, value - (1 + abs(value)) * reach), min(1.0, value + (1 + abs(value)) * reach)
    if len(parts) > 1:
        return macro_bootstrap(parts, confidence, samples)
    [differences] = parts.values()
    return bootstrap(differences, confidence, samples)


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided p-value of the exact McNemar test.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def sign_flip(differences: Sequence[float], samples: int = 2000) -> float:
    """Two-sided p-value of the paired permutation test: the sign of each difference is flipped at random."""
    values = np.asarray([d for d in differences if d], dtype=np.float64)
    if not len(values):
        return 1.0
    rng = np.random.default_rng(_SEED)
    observed = abs(values.sum()) * (1 - 1e-12)
    extreme = 0
    for size in _chunks(samples, len(values)):
        signs = rng.integers(0, 2, size=(size, len(values)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ values) >= observed).sum())
    return (extreme + 1) / (samples + 1)


def detectable_difference(num_items: int, spread: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest mean difference that a two-sided paired z-test at level `alpha` finds with the given power.

    Args:
        num_items: number of pairs.
        spread: standard deviation of the differences.
        alpha: share of false alarms.
        power: share of true differences found.
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * spread / math.sqrt(num_items)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: below 0.05 means found among all these tests together.

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
    """Means of `count` values (None: as many as there are), drawn with replacement."""
    rng = np.random.default_rng([_SEED, stream])
    count = count or len(values)
    distinct, numbers = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW:  # then how often each of them is drawn is all there is to know
        drawn = rng.multinomial(count, numbers / len(values), size=samples)
        means: NDArray[np.float64] = drawn @ distinct / count
        return means
    parts = [
        values[rng.integers(0, len(values), size=(size, count))].mean(axis=1)
        for size in _chunks(samples, count)
    ]
    return np.concatenate(parts)


def _chunks(samples: int, width: int) -> list[int]:
    size = max(1, min(samples, _CELLS // max(1, width)))
    return [min(size, samples - start) for start in range(0, samples, size)]


def _percentiles(values: NDArray[np.float64], confidence: float) -> Interval:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
