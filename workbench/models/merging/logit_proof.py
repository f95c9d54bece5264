"""Compares the logits of merged model and adapter model, within the measured rounding error."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.errors import ConfigError
from workbench.models.dtypes import dtype_name
from workbench.models.logit_comparison import (
    Bound,
    Check,
    check,
    close_calls,
    compare,
    expected_flips,
    scale,
)
from workbench.models.merging.effect import ProbeEffect, distance, probe_effect
from workbench.models.merging.job import Logits, Made, MergeJob

TOLERANCE = 1e-4
"""Largest difference between two computations of the same float32 logits, as a share of the largest logit."""

ADAPTER_ROUNDING = (4, 1.5)
"""Factors by which the merged model's largest and mean rounding error become bounds for the adapter model's.

The adapter model rounds in other operations, and about as much. In bfloat16 on NF4 the ratio of the largest
errors stayed below 1.7 on 8 random models of 14 tokens; the ratio of the means was 0.96 to 1.02 on 656 tokens
of a 135M model.
"""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Results of `prove`; the fields have the same meaning in MergeReport."""

    logit_scale: float
    """Largest absolute logit of the float32 sum."""
    merged: Check
    """Difference of the folder, read back, from the adapter model."""
    float32_sum: Check
    """Difference of the float32 sum from base + adapter in float32."""
    disk: Check
    """Difference of the folder, read back, from the model that was saved."""
    effect: ProbeEffect
    """Distances that show how much of the adapter's effect the merged model keeps."""


def prove(job: MergeJob, made: Made) -> Proof:
    """Compare the logits of the merged folder, as read from disk, with those of the models it was made from.

    Args:
        job: The merge, which has probe texts.
        made: All logits on these texts.

    Raises:
        ConfigError: Rounded to the saved dtype, the sum's logits aren't finite.
        CheckpointError: Two models differ by more than rounding explains.
    """
    largest = TOLERANCE * scale(made.total)
    flips = close_calls(made.total, largest)
    bound = Bound(largest, largest, flips, f"{TOLERANCE:g} of the largest logit")
    float32_sum = check("the float32 sum differs from base + adapter", made.unmerged, made.total, bound)
    if not math.isfinite(compare(made.total, made.rounded[job.dtype]).largest):
        raise overflow(job.dtype)
    saved, reloaded, reference = made.rounded[job.dtype], made.reloaded, made.adapter or made.unmerged
    disk = check("the folder read back differs from what was saved", saved, reloaded, bound)
    wider = _wider(bound, job, made)
    merged = check(f"the merged model differs from the {job.reference}", reference, reloaded, wider)
    noise = distance(made.unmerged, made.total)
    return Proof(
        logit_scale=scale(made.total),
        merged=merged,
        float32_sum=float32_sum,
        disk=disk,
        effect=probe_effect(made.base, made.unmerged, made.merged, noise),
    )


def overflow(dtype: torch.dtype) -> ConfigError:
    """Return, without raising it, the error for weights beyond the range of the saved dtype."""
    return ConfigError(
        f"merge.dtype: {dtype_name(dtype)!r} has too small a range for these weights (use float32)"
    )


def _wider(bound: Bound, job: MergeJob, made: Made) -> Bound:
    """Add the measured rounding errors of two dtypes to the bound: the saved one and the adapter model's."""
    saved, trained = made.rounded[job.dtype], made.rounded[job.adapter_dtype]
    noises = [_noise(made.total, saved, 1.0), _noise(made.total, trained, ADAPTER_ROUNDING[1])]
    bound = replace(bound, flips=bound.flips + expected_flips(made.total, noises))
    bound = bound.wider_by(compare(made.total, saved), f"rounding to {dtype_name(job.dtype)}")
    return bound.wider_by(
        compare(made.total, trained), f"rounding to {dtype_name(job.adapter_dtype)}", ADAPTER_ROUNDING
    )


def _noise(exact: Logits, rounded: Logits, factor: float) -> Iterator[Tensor]:
    """Yield for each block of logits the rounding errors times `factor`."""
    return ((after - before) * factor for before, after in zip(exact, rounded, strict=True))
