"""Tests the difference of scores that aren't means over items, such as F1, by each item's influence on it."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from workbench.statistics.binary_pairs import made_consistent
from workbench.statistics.clusters import Floats, clustered_error
from workbench.statistics.paired import PairedTest


def compare_linearised(
    difference: float,
    influences: Floats,
    codes: NDArray[np.int64],
    *,
    alpha: float,
    test: str,
    scores: Floats,
    is_changed: NDArray[np.bool_],
) -> PairedTest:
    """Test a difference of two scores by Student's t; its variance is that of the clusters' influences.

    If that variance is 0, as with F1 of 0 and of 1, the standard error is |difference| / number of clusters.
    If fewer than FEWEST_CLUSTERS clusters differ, the result has a `reason`, and NaN as p-value and interval.

    Args:
        difference: Difference of the two models' scores.
        influences: Influence of each item on the difference; their sum is 0.
        codes: Each item's cluster, as a number from 0.
        alpha: Level of the test.
        test: Name of the test in the result.
        scores: Second minus first model's score of each item; its sign says if the item is gained or lost.
        is_changed: For each item whether the models differ on it.

    Source: D. Binder, On the variances of asymptotically normal estimators from complex surveys, 1983.
    """
    sums: Floats = np.bincount(codes, weights=influences).astype(np.float64)
    num_clusters, error = len(sums), clustered_error(sums)
    draft = PairedTest(
        difference=difference,
        stderr=error if error > 1e-12 else (abs(difference) or 1.0) / num_clusters,
        low=math.nan,
        high=math.nan,
        p_value=math.nan,
        alpha=alpha,
        test=test,
        num_items=len(influences),
        gained=int((scores > 0).sum()),
        lost=int((scores < 0).sum()),
        num_clusters=num_clusters,
        num_differing=len(np.unique(codes[is_changed])),
        share_squares=1 / num_clusters,
    )
    if reason := draft.why_too_few():
        return replace(draft, reason=reason)
    return with_student(draft, num_clusters - 1)


def with_student(draft: PairedTest, degrees: float) -> PairedTest:
    """Return the draft with p-value and interval, by Student's t with `degrees` degrees of freedom.

    Difference, level and standard error, which must not be 0, are those of the draft.
    """
    margin = float(special.stdtrit(degrees, 1 - draft.alpha / 2)) * draft.stderr
    p_value = float(2 * special.stdtr(degrees, -abs(draft.difference) / draft.stderr))
    low, high = made_consistent(
        draft.difference - margin, draft.difference + margin, draft.difference, p_value < draft.alpha
    )
    return replace(draft, p_value=p_value, low=float(low), high=float(high))
