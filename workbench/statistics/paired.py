"""Tests the difference of two models on the same items, with the interval that belongs to the test."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from workbench.errors import DataError
from workbench.shown import message
from workbench.statistics.binary_pairs import compare_flips, widened_for_flips
from workbench.statistics.clusters import Floats, Labels, cluster_codes, clustered_error, item_weights
from workbench.statistics.kept_results import kept
from workbench.statistics.sign_flip import sign_flip

FEWEST_CLUSTERS = 10
"""Minimum number of differing clusters for a verdict."""


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Result of testing the difference of two models' scores on the same items.

    `low`, `high` and `p_value` are NaN where there is no test; `reason` says why.
    """

    difference: float
    """The second model's score minus the first model's."""
    stderr: float
    """Standard error of the difference, by cluster if there are clusters; some tests have a floor above 0."""
    low: float
    high: float
    """Interval of coverage 1 - alpha; without a `reason` it excludes 0 exactly where `p_value` < `alpha`."""
    p_value: float
    """Two-sided p-value, not corrected for the number of comparisons."""
    alpha: float
    """Level of the test."""
    test: str
    """Name of the test, such as mcnemar-exact or sign-flip-exact."""
    num_items: int
    gained: int
    """Items on which the second model scores higher."""
    lost: int
    """Items on which the second model scores lower."""
    num_clusters: int
    """Independent groups of items; the number of items where there are no clusters."""
    num_differing: int
    """Clusters whose difference isn't 0."""
    share_squares: float
    """Sum of the clusters' squared shares of the total weight; 1 / num_clusters for equal clusters."""
    reason: str = ""
    """Why there is no verdict; empty where the interval decides."""

    @property
    def sign(self) -> int:
        """Return the verdict: 1 if the second model is higher, -1 if lower, 0 if no difference is shown."""
        if self.reason:
            return 0
        return int(self.low > 0) - int(self.high < 0)

    def why_too_few(self) -> str:
        """Return the message that too few clusters or items differ for a verdict; empty if enough differ."""
        if self.num_differing >= FEWEST_CLUSTERS:
            return ""
        if self.num_clusters < self.num_items:
            return message("too few clusters differ") if self.num_differing else message("no cluster differs")
        return message("too few items differ") if self.num_differing else message("no item differs")


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    *,
    alpha: float = 0.05,
    clusters: Labels | None = None,
    subsets: Labels | None = None,
    weights: ArrayLike | None = None,
) -> PairedTest:
    """Compare two models' scores on the same items in the same order.

    Scores of 0 and 1 on independent items of equal weight take the exact McNemar test; all others the exact
    sign-flip test of the clusters' differences. The latter needs FEWEST_CLUSTERS clusters that differ; with
    fewer, the result has a `reason`, and NaN for p-value and interval.

    Args:
        first: Scores of the first model.
        second: Scores of the second model.
        alpha: Level of this test; for one of m comparisons, the family's error rate divided by m.
        clusters: Label of each item's cluster, such as the text that several questions share; None:
            independent items.
        subsets: Label of each item's subset, for the mean of subset means (macro).
        weights: Weight of each item in the difference; None: 1 / number of items, or that of the macro mean.

    Raises:
        DataError: The models have different numbers of items, no items, or scores that aren't finite, or the
            labels aren't one per item.
    """
    before, after = _checked(first, second)
    num_items = len(before)
    weight = item_weights(num_items, subsets) if weights is None else np.asarray(weights, dtype=np.float64)
    codes = cluster_codes(clusters, num_items)
    differences = after - before
    sums: Floats = np.bincount(codes, weights=weight * differences).astype(np.float64)
    shares: Floats = np.bincount(codes, weights=weight).astype(np.float64) / weight.sum()
    draft = PairedTest(
        difference=float(sums.sum()),
        stderr=clustered_error(sums - sums.sum() * shares),
        low=math.nan,
        high=math.nan,
        p_value=math.nan,
        alpha=alpha,
        test="sign-flip-exact",
        num_items=num_items,
        gained=int((differences > 0).sum()),
        lost=int((differences < 0).sum()),
        num_clusters=len(sums),
        num_differing=int((np.abs(sums) > 1e-12 * np.abs(sums).max()).sum()),
        share_squares=float(shares @ shares),
    )
    is_binary = bool(np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all())
    if is_binary and len(sums) == num_items and np.allclose(weight, 1 / num_items, rtol=1e-9):
        return _mcnemar(draft)
    in_shares = before.min() >= 0 and after.min() >= 0 and max(before.max(), after.max()) <= 1
    return _sign_flip(draft, sums, shares, float(np.abs(weight).sum()) if in_shares else math.inf)


def _checked(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    before, after = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(before) != len(after):
        raise DataError(
            f"paired comparison: {len(before)} scores of the first model, {len(after)} of the second "
            "(a paired comparison needs the same items)"
        )
    if not len(before):
        raise DataError("paired comparison: no items (both models must have answered at least one)")
    for name, scores in (("first", before), ("second", after)):
        if not np.isfinite(scores).all():
            index = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise DataError(
                f"paired comparison: score {scores[index]} of the {name} model's item {index + 1} "
                "is not a finite number (score the item again, or leave it out for both models)"
            )
    return before, after


def _mcnemar(draft: PairedTest) -> PairedTest:
    flips = compare_flips(draft.gained, draft.lost, draft.num_items, draft.alpha)
    return replace(
        draft,
        stderr=draft.stderr or 1 / draft.num_items,  # 0 if all or no items differ: then as of one item
        low=float(flips.low),
        high=float(flips.high),
        p_value=float(flips.p_value),
        test="mcnemar-exact",
    )


def _sign_flip(draft: PairedTest, sums: Floats, shares: Floats, largest: float) -> PairedTest:
    if reason := draft.why_too_few():
        return replace(draft, reason=reason)
    p_value, low, high = kept(
        "sign_flip",
        (sums, shares, draft.alpha, largest),
        lambda: [*sign_flip(sums, shares, draft.alpha, largest)],
    )
    if draft.num_differing < draft.num_clusters:  # the sign flips ignore that their number is random
        wide_low, wide_high = widened_for_flips(
            low, high, draft.difference, draft.num_differing, draft.num_clusters, draft.alpha, largest
        )
        low, high = float(wide_low), float(wide_high)
    return replace(draft, p_value=p_value, low=low, high=high)
