"""Fits each tensor of a merged model against base + x times the adapter's update."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from workbench.models.diagnosis.low_rank import low_rank
from workbench.models.diagnosis.quantized import ROUND_TRIPS, has_four_bit_levels
from workbench.models.diagnosis.rounding import effective_dtype, rounded, rounding_noise, row_blocks
from workbench.models.diagnosis.weight_pair import WeightPair
from workbench.models.dtypes import dtype_name

EQUAL_SHARE = 0.99
"""Least share of numbers that equal the base's in an unchanged tensor; rounding twice changes a few."""
NEAR_SHARE = 0.9
"""Least share of weights near the prediction for a quantization to be recognized; some at the edges of its
bins differ."""
MOST_STEPS = 6
"""Largest number of steps in the search for the factor x on an update."""


class Kind(Enum):
    """How a tensor of the merged model relates to base and adapter."""

    equal = "equal to the base"
    merged = "base + update"
    scaled = "base + x times the update"
    dequantized = "dequantized base + update"
    requantized = "quantized again"
    tied = "with the update of the tied head"
    unexplained = "none of these"
    missing = "missing"
    misshapen = "of another shape"
    not_finite = "with NaN or infinite values"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a tensor of the merged model relates to base and adapter, with the measurements behind it."""

    name: str
    """Canonical name of the tensor."""
    kind: Kind
    is_adapted: bool = False
    """Whether the adapter changes this tensor."""
    times: float | None = None
    """Factor x for which base + x times the update fits best; 1 is intended. None if there is no update."""
    uncertainty: float = 0.0
    """Standard error of the factor x in `times` that rounding causes."""
    method: str = ""
    """Quantization of the weight before or after the merge; empty if none is recognized."""
    equal_share: float = 0.0
    """Share of the tensor's numbers that equal those predicted by `kind` and `times` exactly; of a
    quantized one, nearly."""
    size: float = 0.0
    """|merged - base| / |base|, Frobenius norms."""
    error: float = 0.0
    """|merged - prediction| / |merged - base|, where computed; else 0."""
    update: float = 0.0
    """Frobenius norm of the adapter's update."""
    projection: float = 0.0
    """<merged - base, D> / <D, D> for the update D: the share of D that the merged tensor has."""
    rank: int | None = None
    """Rank of an unexplained tensor's difference from base + `times` x update, if it is low; else None."""
    is_below_rounding: bool = False
    """Whether base and base + update are the same numbers after rounding."""
    has_no_update: bool = False
    """Whether the adapter's update of this tensor is zero."""
    is_repeated: bool = False
    """Whether `times` is 2 because the update was applied twice, where that differs from doubling the
    scale."""
    dtype: str = ""
    """Dtype of the tensor in its file."""
    rounded_to: str = ""
    """Coarsest dtype that represents all numbers of the tensor."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """Actual and expected shape, if they differ."""


Merge = Callable[[Tensor, float, torch.dtype | None], Tensor]
"""Function (weight, x, dtype of the adapter's tensors) -> weight plus x times the update, in the weight's
dtype."""


def fit(
    name: str, base: Tensor, merged: Tensor, merge: Merge | None, is_linear: bool, scales: tuple[float, ...]
) -> Fit:
    """Find how a tensor of the merged model relates to the base and to the adapter's update.

    Args:
        name: Canonical name of the tensor.
        base: Tensor of the base, in the dtype of its file.
        merged: Tensor of the merged model, of the same shape.
        merge: Merges the adapter into a weight; None: the adapter doesn't change this tensor.
        is_linear: Whether x times the adapter's scale gives x times the update.
        scales: Factors x that known mistakes cause, tried before others.
    """
    if merge is None and merged.dtype == base.dtype and torch.equal(base, merged):
        return Fit(name=name, kind=Kind.equal, equal_share=1.0, dtype=dtype_name(merged.dtype))
    dtype = effective_dtype(merged)
    facts: dict[str, Any] = {
        "name": name,
        "is_adapted": merge is not None,
        "dtype": dtype_name(merged.dtype),
        "rounded_to": dtype_name(dtype),
    }
    if not all(bool(merged[rows].float().isfinite().all()) for rows in row_blocks(merged)):
        return Fit(kind=Kind.not_finite, **facts)
    pair = WeightPair(base, merged, dtype, rounding_noise(merged, dtype))
    norm = sum(float(base[rows].double().square().sum()) for rows in row_blocks(base))
    facts["size"] = math.sqrt(pair.size_of(merged) / norm) if norm else 0.0
    if merge is None:
        return _fit_plain(pair, facts)
    return _fit_adapted(pair, merge, is_linear, scales, facts)


def _fit_plain(pair: WeightPair, facts: dict[str, Any]) -> Fit:
    """Fit a tensor that the adapter doesn't change: equal to the base, quantized, or unexplained."""
    squares, equal = pair.distance(pair.base)
    if equal >= EQUAL_SHARE and pair.allows(squares, 0.0):
        return Fit(kind=Kind.equal, equal_share=equal, **facts)
    if pair.merged.dim() == 2:
        for method, round_trip in ROUND_TRIPS.items():
            if pair.near_share(round_trip(pair.base), 0.0) >= NEAR_SHARE:
                return Fit(kind=Kind.dequantized, method=method, **facts)
    return _unexplained(pair, pair.base.float(), None, facts)


def _fit_adapted(
    pair: WeightPair, merge: Merge, is_linear: bool, scales: tuple[float, ...], facts: dict[str, Any]
) -> Fit:
    """Fit a tensor that the adapter changes: base + x times the update, quantized, or unexplained."""
    base = pair.base.float()
    updated = merge(base, 1.0, None)
    if not pair.size_of(updated):
        return replace(_fit_plain(pair, facts), has_no_update=True)
    facts["update"], facts["projection"] = (
        math.sqrt(pair.size_of(updated)),
        pair.projection(pair.merged, updated),
    )
    _, own_equal = pair.distance(base)
    for candidate in _peft_merges(pair, merge, updated):
        if pair.distance(candidate)[1] == 1.0:
            is_below = own_equal == 1.0
            return Fit(kind=Kind.merged, times=1.0, equal_share=1.0, is_below_rounding=is_below, **facts)
    if own_equal == 1.0:
        return Fit(kind=Kind.equal, times=0.0, equal_share=1.0, **facts)
    return (
        _fit_scale(pair, merge, updated, is_linear, scales, facts)
        or _fit_quantized(pair, merge, updated, facts)
        or _unexplained(pair, updated, pair.projection(pair.merged, updated), facts)
    )


def _peft_merges(pair: WeightPair, merge: Merge, updated: Tensor) -> Iterator[Tensor]:
    """Yield the merged weights, as float32, that peft gives in the dtypes in which tools load models."""
    yield updated
    for dtype in dict.fromkeys((pair.dtype, pair.base.dtype)):
        if dtype != torch.float32:
            base = pair.base.to(dtype)
            yield merge(base, 1.0, None).float()
            yield merge(base, 1.0, dtype).float()


def _fit_scale(
    pair: WeightPair,
    merge: Merge,
    updated: Tensor,
    is_linear: bool,
    scales: tuple[float, ...],
    facts: dict[str, Any],
) -> Fit | None:
    """Find the factor x for which the tensor is base + x times the update; None if no x explains it."""
    base = pair.base.float()

    def at(times: float) -> Tensor:
        if is_linear:
            return base + times * (updated - base)
        return base if times == 0 else merge(base, times, None)

    update_size = pair.size_of(updated)
    measured = pair.projection(pair.merged, updated)
    distances = {times: pair.distance(at(times)) for times in dict.fromkeys((1.0, 0.0, *scales))}
    named = min(distances, key=lambda times: distances[times][0])
    uncertainty = math.sqrt(pair.noise / update_size)
    if scales or is_linear:
        free = _search(pair, at, updated, measured)
        distances[free] = pair.distance(at(free))
        is_named = distances[named][0] <= 1.5 * distances[free][0]
        times = named if is_named or abs(free - named) <= 5 * uncertainty else free
    else:
        times = named
    squares, equal = distances[times]
    is_repeated = False
    if not is_linear:
        again = pair.distance(merge(updated, 1.0, None))
        if again[0] < squares / 2:
            times, is_repeated, (squares, equal) = 2.0, True, again
    if not pair.allows(squares, times**2 * update_size):
        return None
    kind = {1.0: Kind.merged, 0.0: Kind.equal}.get(times, Kind.scaled)
    size = pair.size_of(pair.merged)
    return Fit(
        kind=kind, times=times, uncertainty=uncertainty, equal_share=equal, is_repeated=is_repeated,
        error=math.sqrt(squares / size) if size else 0.0, **facts,
    )  # fmt: skip


def _search(pair: WeightPair, at: Callable[[float], Tensor], updated: Tensor, measured: float) -> float:
    """Return the x whose prediction, after rounding, has the measured projection on the update.

    Rounding swallows small updates, so the projection of a rounded prediction is less than x too.
    """
    times = measured
    for _ in range(MOST_STEPS):
        projected = pair.projection(at(times), updated)
        if not projected or abs(projected - measured) <= 1e-3 * abs(measured):
            break
        times *= min(10.0, max(0.1, measured / projected))
    return times


def _fit_quantized(pair: WeightPair, merge: Merge, updated: Tensor, facts: dict[str, Any]) -> Fit | None:
    """Find the quantization that the base or the merged weight went through; None if there is none."""
    if pair.merged.dim() != 2:
        return None
    allowed = 0.01 * math.sqrt(pair.size_of(updated) / pair.merged.numel())
    nearest: tuple[float, Kind, str] = (NEAR_SHARE, Kind.unexplained, "")
    for method, round_trip in ROUND_TRIPS.items():
        before = merge(round_trip(pair.base), 1.0, None)
        after = round_trip(rounded(updated, pair.dtype))
        for kind, candidate in ((Kind.dequantized, before), (Kind.requantized, after)):
            share = pair.near_share(candidate, allowed)
            if share > nearest[0]:
                nearest = (share, kind, method)
    share, kind, method = nearest
    if kind is Kind.unexplained and has_four_bit_levels(pair.merged):
        kind, method, share = Kind.requantized, "4 bits", 0.0
    if kind is Kind.unexplained:
        return None
    times = 1.0 if kind is Kind.dequantized else None
    return Fit(kind=kind, times=times, method=method, equal_share=share, **facts)


def _unexplained(pair: WeightPair, updated: Tensor, times: float | None, facts: dict[str, Any]) -> Fit:
    """Describe an unexplained tensor by rank and size of its difference from base + `times` x update."""
    base = pair.base.float()
    remainder = pair.merged.float() - (base if times is None else base + times * (updated - base))
    size = pair.size_of(pair.merged)
    return Fit(
        kind=Kind.unexplained, times=times,
        error=math.sqrt(float(remainder.double().square().sum()) / size) if size else 0.0,
        rank=low_rank(remainder, pair.noise) if remainder.dim() == 2 else None, **facts,
    )  # fmt: skip
