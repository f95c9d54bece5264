"""Examines a merged model tensor by tensor, with one tensor of each model in memory."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from workbench.models.checkpoints.model_folder import HEAD, ModelFolder
from workbench.models.diagnosis.adapter_layers import AdapterLayers
from workbench.models.diagnosis.least_squares import Fit, Kind, Merge, fit
from workbench.models.dtypes import dtype_name


def examine(base: ModelFolder, merged: ModelFolder, adapter: AdapterLayers | None) -> Iterator[Fit]:
    """Yield the fit of each tensor that base or adapter have, in the order of the base's files.

    Tensors that only the merged model has are skipped, except for an untied copy of a tied head.

    Args:
        base: The base.
        merged: The merged model.
        adapter: The adapter; None: only differences from the base are described.
    """
    names = dict.fromkeys([*base.tensors, *(adapter.tensors.replaced if adapter else ())])
    if HEAD in merged.tensors and base.is_tied:
        names[HEAD] = None
    for name in names:
        if name in merged.tensors:
            yield _examine(name, base, merged, adapter)
        elif name != HEAD or not (merged.is_tied or merged.is_classifier):
            yield Fit(name=name, kind=Kind.missing, is_adapted=_is_changed(name, adapter))


def _examine(name: str, base: ModelFolder, merged: ModelFolder, adapter: AdapterLayers | None) -> Fit:
    """Compare one tensor with the base, the update, or the replacement that the adapter has for it."""
    tensor, weight = merged.tensors[name][...], base_weight(name, base)
    if not tensor.dim():
        tensor, weight = tensor[None], None if weight is None else weight[None]
    if not tensor.is_floating_point():
        return Fit(name=name, kind=Kind.requantized, method=f"{dtype_name(tensor.dtype)} numbers")
    expected = _replacement(name, weight, adapter)
    if expected is not None:
        return _examine_replaced(name, weight, tensor, expected)
    assert weight is not None
    if tensor.shape != weight.shape:
        return _examine_resized(name, weight, tensor, adapter)
    single = _fitted(name, weight, tensor, adapter, [name])
    is_shared = base.is_tied and name == base.embedding() and HEAD not in merged.tensors
    if (
        is_shared
        and adapter is not None
        and HEAD in adapter.tensors.modules
        and single.kind is not Kind.equal
    ):
        with_head = _fitted(name, weight, tensor, adapter, [name, HEAD])
        return replace(with_head, kind=Kind.tied) if with_head.kind is Kind.merged else single
    return single


def base_weight(name: str, base: ModelFolder) -> Tensor | None:
    """Read a weight of the base, for a tied head the embedding; None if the base has no such weight."""
    weight = base.weight(name)
    return None if weight is None else weight[...]


def _fitted(
    name: str, weight: Tensor, tensor: Tensor, adapter: AdapterLayers | None, updates: list[str]
) -> Fit:
    """Fit a tensor against base + x times the adapter's updates under these names, if it has any."""
    present = [update for update in updates if adapter is not None and update in adapter.tensors.modules]
    if adapter is None or not present:
        return fit(name, weight, tensor, None, True, ())
    return fit(
        name,
        weight,
        tensor,
        _merge_of(adapter, present),
        adapter.is_linear,
        named_scales(adapter, present[0]),
    )


def _merge_of(adapter: AdapterLayers, names: list[str]) -> Merge:
    """Return a function that merges the adapter's updates under these names into one weight."""

    def merge(weight: Tensor, times: float, dtype: torch.dtype | None) -> Tensor:
        for name in names:
            weight = adapter.merged(name, weight, times, dtype)
        return weight

    return merge


def _is_changed(name: str, adapter: AdapterLayers | None) -> bool:
    """Return whether the adapter updates or replaces a weight."""
    if adapter is None:
        return False
    tensors = adapter.tensors
    return name in tensors.modules or name in tensors.replaced or name in tensors.rows


def _replacement(name: str, weight: Tensor | None, adapter: AdapterLayers | None) -> Tensor | None:
    """Return the weight with which the adapter replaces the base's, in full or in some rows; else None."""
    if adapter is None:
        return None
    rows = adapter.tensors.rows.get(name)
    if rows is None or weight is None:
        return adapter.tensors.replaced.get(name)
    indices, values = rows
    replacement = weight.clone()
    replacement[indices] = values.to(weight.dtype)
    return replacement


def _examine_replaced(name: str, weight: Tensor | None, tensor: Tensor, expected: Tensor) -> Fit:
    """Compare a tensor with `expected`, the adapter's replacement for it, and with the base's weight.

    The fit's kind is merged (equal to the replacement), equal (still the base's), misshapen, not_finite or
    unexplained.
    """
    if tensor.shape != expected.shape:
        shapes = (tuple(tensor.shape), tuple(expected.shape))
        return Fit(name=name, kind=Kind.misshapen, is_adapted=True, shapes=shapes)
    replaced = replace(fit(name, expected, tensor, None, True, ()), is_adapted=True)
    if replaced.kind is Kind.equal:
        return replace(replaced, kind=Kind.merged, times=1.0)
    if replaced.kind is Kind.not_finite or weight is None or weight.shape != tensor.shape:
        return replaced
    unchanged = replace(fit(name, weight, tensor, None, True, ()), is_adapted=True)
    return replace(unchanged, times=0.0) if unchanged.kind is Kind.equal else replaced


def _examine_resized(name: str, weight: Tensor, tensor: Tensor, adapter: AdapterLayers | None) -> Fit:
    """Compare the common rows of a matrix that has more or fewer rows than the base's."""
    shapes = (tuple(tensor.shape), tuple(weight.shape))
    is_changed = _is_changed(name, adapter)
    if tensor.dim() != 2 or tensor.shape[1:] != weight.shape[1:] or is_changed:
        return Fit(name=name, kind=Kind.misshapen, is_adapted=is_changed, shapes=shapes)
    rows = min(len(tensor), len(weight))
    common = fit(name, weight[:rows], tensor[:rows], None, True, ())
    return replace(common, shapes=shapes, kind=Kind.misshapen if common.kind is Kind.equal else common.kind)


def named_scales(adapter: AdapterLayers, name: str) -> tuple[float, ...]:
    """Return factors on an update that known mistakes cause, such as 2 for merging twice.

    `name` is the canonical name of an adapted weight. Empty if the adapter type has no scale.
    """
    scale, rank = adapter.scale(name), adapter.rank(name)
    if not scale:
        return ()
    scales = [2.0, 0.5, 3.0, 4.0, -1.0, 1 / scale]
    if rank:
        scales += [math.sqrt(rank), 1 / math.sqrt(rank), float(rank)]
    return tuple(dict.fromkeys(scales))
