"""Measures how much of an adapter's effect a merged model keeps; a merge that keeps too little is refused."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from workbench.errors import CheckpointError
from workbench.weights.signal import Signal

REFUSED_KEPT, WARNED_KEPT = 0.5, 0.9
"""Shares of the adapter's effect: a merge that keeps less than the first is refused, than the second warned
of."""
REFUSED_ERROR, WARNED_ERROR = 1.0, 0.5
"""Errors relative to the effect: a merge from the first on is refused, beyond the second warned of."""
REFUSED_WEIGHT_ERROR = 0.9
"""Relative error of the weights from which a merge is refused, if there are no logits to judge by."""
LEAST_EFFECT = 10
"""An adapter whose effect is at most this multiple of the noise of float32 products does nothing."""

log = logging.getLogger("workbench")


@dataclass(frozen=True, kw_only=True)
class ProbeEffect:
    """Distances, as from `distance`, between base, base + adapter and merged model on the probe texts.

    All logits are computed in float32. The base's weights are those of the training (rounded, quantized), the
    merged weights those that were saved.
    """

    adapter_from_base: float
    """The adapter's effect."""
    merged_from_adapter: float
    """What the merge changed."""
    merged_from_base: float
    """The merged model's effect."""
    float32_noise: float
    """Distance of two float32 computations of the same model."""
    kept: float
    """<merged - base, adapter - base> / |adapter - base|^2: share of the effect that the merge keeps."""
    error: float
    """|merged - adapter| / |adapter - base|; both are NaN if the adapter changes no logit."""


def probe_effect(
    base: Iterable[Tensor], adapter: Iterable[Tensor], merged: Iterable[Tensor], noise: float
) -> ProbeEffect:
    """Compare the float32 logits of three models on the same texts, block by block.

    The models' blocks (N, V) have the same number and shapes.

    Args:
        base: Logits of the base, whose weights are rounded and quantized as in training.
        adapter: Logits of this base with the adapter.
        merged: Logits of the merged weights, rounded as they were saved.
        noise: `distance` between two float32 computations of the same logits.
    """
    effect = product = error = shift = 0.0
    count = 0
    for batches in zip(base, adapter, merged, strict=True):
        before, intended, after = (centred(batch) for batch in batches)
        change, arrived = intended - before, after - before
        effect += float(change.square().sum())
        product += float((arrived * change).sum())
        shift += float(arrived.square().sum())
        error += float((after - intended).square().sum())
        count += before.numel()
    return ProbeEffect(
        adapter_from_base=math.sqrt(effect / count),
        merged_from_adapter=math.sqrt(error / count),
        merged_from_base=math.sqrt(shift / count),
        float32_noise=noise,
        kept=product / effect if effect else math.nan,
        error=math.sqrt(error / effect) if effect else math.nan,
    )


def centred(logits: Tensor) -> Tensor:
    """Return logits (..., V) minus their mean over V, in float64: centred log-probabilities.

    A single output (V = 1) stays as it is. The normalizer of the softmax is the same for all tokens, so that
    it drops out with the mean.
    """
    values = logits.double()
    return values if values.shape[-1] == 1 else values - values.mean(-1, keepdim=True)


def distance(first: Iterable[Tensor], second: Iterable[Tensor]) -> float:
    """Return the root mean square difference between two models' centred logits, in nats.

    Args:
        first: Blocks of logits (N, V), at least one.
        second: Blocks in the same number and shapes.
    """
    total, count = 0.0, 0
    for first_logits, second_logits in zip(first, second, strict=True):
        total += float((centred(first_logits) - centred(second_logits)).square().sum())
        count += first_logits.numel()
    return math.sqrt(total / count)


def judge(effect: ProbeEffect | None, weights: Signal, dtype: str) -> str:
    """Return a sentence on the share of the adapter's effect that the merge keeps; log a warning if small.

    Args:
        effect: Distances on the probe texts; None: there are no texts, and `weights` decides.
        weights: Sums over all weights that the adapter changes.
        dtype: Name of the merged model's dtype.

    Raises:
        CheckpointError: The adapter does nothing, or rounding erased it.
    """
    if effect is None:
        projection, error, most_error = weights.projection, weights.error, REFUSED_WEIGHT_ERROR
        measured_on = "the weights"
        does_nothing = not weights.intended_square > 0
    else:
        projection, error, most_error = effect.kept, effect.error, REFUSED_ERROR
        measured_on = "the probe texts"
        does_nothing = not effect.adapter_from_base > LEAST_EFFECT * effect.float32_noise
    if does_nothing:
        reason = (
            "its weights do change: merge.probe=false proves them without texts, as rows of tokens that the "
            "texts lack need it"
            if weights.intended_square > 0
            else "is it untrained, or were its weights lost?"
        )
        raise CheckpointError(
            f"merge: the adapter does nothing to {measured_on}, so nothing is published ({reason})"
        )
    summary = f"the merged model keeps {share(projection)} of what the adapter does to {measured_on}"
    rounding_error = f"its rounding error is {share(error)} of that"
    way_out = "" if dtype == "float32" else " (merge.dtype=float32 keeps it)"
    if not projection >= REFUSED_KEPT or not error < most_error:
        raise CheckpointError(
            f"merge: rounding to {dtype} erases the adapter: {summary}; {rounding_error}, so nothing is "
            f"published{way_out}"
        )
    if projection < WARNED_KEPT or (effect is not None and error > WARNED_ERROR):
        log.warning("merge: rounding to %s weakens the adapter%s", dtype, way_out)
        return f"{summary}; {rounding_error}"
    return summary


def share(value: float) -> str:
    """Format a share as a percentage: without decimals, but below 10% with one."""
    percent = 100 * value
    return f"{percent:.1f}%" if abs(percent) < 9.95 else f"{percent:.0f}%"
