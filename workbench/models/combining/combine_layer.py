"""Combines the LoRA matrices of one layer with peft's `add_weighted_adapter`.

peft gets a model with this layer only, in which each adapter is a plain LoRA with a scale of its own. The
result has the scale 1, also if an adapter uses rsLoRA, or patterns of rank and alpha, or lacks the layer.
"""

import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer, LoraModel
from torch import Tensor, nn

from workbench.config.merge_method import MergeMethod
from workbench.models.combining.lora_factors import Factors

LAYER, COMBINED = "layer", "combined"


def combine_layer(
    factors: Sequence[Factors | None],
    weights: Sequence[float],
    method: MergeMethod,
    *,
    rank: int | None = None,
    density: float | None = None,
    seed: int = 0,
) -> Factors:
    """Combine several adapters' updates of one layer into new matrices with the scale 1.

    Args:
        factors: The layer's matrices in each adapter, None for an adapter without the layer; at least one
            adapter has it.
        weights: Factor on each adapter's update.
        method: Method of combination, as in peft.
        rank: Rank of the result of a truncated SVD; None: the largest of the adapters.
        density: Share of values that a pruning method keeps; None for other methods.
        seed: Seed of the values that dare drops; the global random state doesn't change.
    """
    present = [layer for layer in factors if layer is not None]
    names = [str(index) for index in range(len(factors))]
    filled = [_zero(present[0]) if layer is None else layer for layer in factors]
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # about the missing model and a density of 1
        model = _layer_model(filled, names)
        torch.manual_seed(seed)
        cast(LoraModel, model.base_model).add_weighted_adapter(
            names,
            list(weights),
            COMBINED,
            combination_type=cast(Any, method.value),
            svd_rank=rank,
            svd_full_matrices=False,
            density=density,
        )
    down, up = _matrices(model, COMBINED)
    if method is MergeMethod.cat:  # the ranks of zeros that stand for a missing layer
        pairs = zip(filled, factors, strict=True)
        used = torch.cat([torch.full((zero.rank,), layer is not None) for zero, layer in pairs])
        down, up = down[used], up[:, used]
    return Factors(
        down=down.detach().contiguous(),
        up=up.detach().contiguous(),
        scale=1.0,
        is_embedding=present[0].is_embedding,
    )


def difference_from_sum(
    factors: Sequence[Factors | None], weights: Sequence[float], combined: Factors
) -> tuple[float, float]:
    """Return |C - S|² and |S|² of the combination C and the weighted sum S of the updates, in float64.

    Both are squared Frobenius norms, computed from the small Gram matrices of the factors. The first two
    arguments are those of `combine_layer`.
    """
    pairs = [(layer, weight) for layer, weight in zip(factors, weights, strict=True) if layer is not None]
    up = torch.cat([layer.up.double() * (weight * layer.scale) for layer, weight in pairs], 1)
    down = torch.cat([layer.down.double() for layer, _ in pairs])
    difference = _squared_norm(
        torch.cat([up, -combined.scale * combined.up.double()], 1),
        torch.cat([down, combined.down.double()]),
    )
    return difference, _squared_norm(up, down)


def squared_size(layer: Factors) -> float:
    """Return the squared Frobenius norm of a layer's update."""
    return layer.scale**2 * _squared_norm(layer.up.double(), layer.down.double())


def _squared_norm(up: Tensor, down: Tensor) -> float:
    """Return the squared Frobenius norm of up @ down."""
    return max(0.0, float(((up.T @ up) * (down @ down.T)).sum()))


def _zero(like: Factors) -> Factors:
    """Return an update of zero with the shapes of another update."""
    return Factors(
        down=torch.zeros_like(like.down),
        up=torch.zeros_like(like.up),
        scale=1.0,
        is_embedding=like.is_embedding,
    )


def _layer_model(factors: Sequence[Factors], names: Sequence[str]) -> PeftModel:
    """Return a peft model with a single layer and these adapters on it."""
    model: PeftModel | None = None
    for name, layer in zip(names, factors, strict=True):
        config = LoraConfig(
            r=layer.rank, lora_alpha=cast(int, layer.scale * layer.rank), target_modules=[LAYER]
        )
        if model is None:
            base = nn.ModuleDict({LAYER: _stand_in(layer)})
            model = cast(PeftModel, get_peft_model(cast(Any, base), config, adapter_name=name))
        else:
            model.add_adapter(name, config)
        down, up = _matrices(model, name)
        down.data, up.data = layer.down, layer.up
    assert model is not None
    return model


def _stand_in(layer: Factors) -> nn.Module:
    """Return a base layer that fits an adapter's matrices, with a weight of zeros that takes no memory."""
    outputs, inputs = layer.up.shape[0], layer.down.shape[1]
    with torch.device("meta"):
        base: nn.Module = (
            nn.Embedding(inputs, outputs) if layer.is_embedding else nn.Linear(inputs, outputs, bias=False)
        )
    shape = cast(Tensor, base.weight).shape
    base.weight = nn.Parameter(torch.zeros(1).expand(shape), requires_grad=False)
    return base


def _matrices(model: PeftModel, name: str) -> tuple[Tensor, Tensor]:
    """Return A and B of the adapter `name` in a model with a single layer."""
    layer = next(module for module in model.modules() if isinstance(module, LoraLayer))
    if name in layer.lora_embedding_A:
        return layer.lora_embedding_A[name], layer.lora_embedding_B[name]
    return cast(Tensor, layer.lora_A[name].weight), cast(Tensor, layer.lora_B[name].weight)
