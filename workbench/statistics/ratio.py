"""Tests the difference of two ratios of sums with the same denominators, such as bits per byte."""

import numpy as np
from numpy.typing import ArrayLike

from workbench.errors import DataError
from workbench.statistics.clusters import Labels, cluster_codes
from workbench.statistics.linearised import compare_linearised
from workbench.statistics.paired import PairedTest


def compare_ratio(
    first: ArrayLike,
    second: ArrayLike,
    sizes: ArrayLike,
    *,
    alpha: float = 0.05,
    clusters: Labels | None = None,
) -> PairedTest:
    """Compare sum(scores) / sum(sizes) of two models, for example bits per byte; documents are the clusters.

    Args:
        first: The first model's numerator of each text, such as its negative log-likelihood in bits.
        second: The second model's numerator of each text.
        sizes: Denominator of each text, such as its bytes: the same for both models.
        alpha: Level of the test.
        clusters: Document of each text; None: each text is a document.

    Raises:
        DataError: Numbers of texts differ, a score isn't finite, or the sizes' sum isn't positive.

    Source: W. Cochran, Sampling Techniques, 1977, section 6.
    """
    before, after, size = (np.asarray(values, dtype=np.float64) for values in (first, second, sizes))
    if not len(before) == len(after) == len(size):
        raise DataError(
            f"paired comparison: {len(before)}, {len(after)} scores for {len(size)} texts "
            "(a paired comparison needs the same texts)"
        )
    if not (np.isfinite(before).all() and np.isfinite(after).all() and size.sum() > 0):
        raise DataError(
            "paired comparison: a log-likelihood is not a finite number, or all texts are empty "
            "(score them again)"
        )
    changes = after - before
    difference = float(changes.sum() / size.sum())
    return compare_linearised(
        difference,
        (changes - difference * size) / size.sum(),
        cluster_codes(clusters, len(size)),
        alpha=alpha,
        test="ratio-t",
        scores=changes,
        is_changed=changes != 0,
    )
