"""Initializes adapters from the base's weights (PiSSA, OLoRA) without changing the base.

PiSSA and OLoRA subtract the product of the initial matrices from the base weights. Here an adapter of twice
the rank contains a frozen negative copy of the initial matrices instead: the function and the gradients are
the same, and the base, which may be quantized, is unchanged.
"""

from typing import cast

import torch
from peft.tuners.lora import LoraLayer, LoraModel
from torch import Tensor

from workbench.config.adapter import AdapterInit
from workbench.errors import ConfigError
from workbench.models.quantization import float_weight

FROM_WEIGHTS = (AdapterInit.pissa, AdapterInit.olora)
"""Initializations that are computed here from the base's weights."""


def start_from_weights(model: LoraModel, init: AdapterInit, adapter: str = "default") -> None:
    """Initialize A and B of each layer in place; they have twice the trained rank.

    The first halves are trained. The second halves cancel their initial product, and are frozen by hooks that
    zero their gradients.

    Args:
        model: Model with an adapter of twice the trained rank.
        init: pissa or olora.
        adapter: Name of the adapter.

    Raises:
        ConfigError: A layer is smaller than the trained rank, or isn't linear.
    """
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer) or adapter not in layer.r:
            continue
        if adapter not in layer.lora_A:
            raise ConfigError(f"adapter.init: {init.name!r} needs linear layers, and {name} is not linear")
        down, up = cast(Tensor, layer.lora_A[adapter].weight), cast(Tensor, layer.lora_B[adapter].weight)
        rank = layer.r[adapter] // 2
        weight = float_weight(layer.get_base_layer(), up.dtype).to(down.device)  # (out, in)
        if rank > min(weight.shape):
            raise ConfigError(f"adapter.rank: {rank} is too large for {name} (at most {min(weight.shape)})")
        initial_down, initial_up = INITIALIZE[init](weight, rank, float(layer.scaling[adapter]))
        with torch.no_grad():
            down.copy_(torch.cat([initial_down, initial_down]))
            up.copy_(torch.cat([initial_up, -initial_up], 1))
        down.register_hook(lambda gradient, rank=rank: freeze_second_half(gradient, rank, 0))  # type: ignore[no-untyped-call]
        up.register_hook(lambda gradient, rank=rank: freeze_second_half(gradient, rank, 1))  # type: ignore[no-untyped-call]


def pissa(weight: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    """Return A (rank, in) and B (out, rank) whose scaled product best approximates a weight (out, in).

    Source: PiSSA, arXiv:2404.02948, section 3.
    """
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = (values[:rank] / scaling).sqrt()
    return root[:, None] * right[:rank], left[:, :rank] * root


def olora(weight: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    """Return A (rank, in), the first rows of R, and B (out, rank), the first columns of Q, with weight = Q R.

    `scaling` isn't used. Source: OLoRA, arXiv:2406.01775, section 3.
    """
    orthogonal, triangular = torch.linalg.qr(weight)
    return triangular[:rank], orthogonal[:, :rank]


INITIALIZE = {AdapterInit.pissa: pissa, AdapterInit.olora: olora}
"""Initialization -> function (weight, rank, scaling) that returns the initial A and B of a layer."""


def freeze_second_half(gradient: Tensor, rank: int, dim: int) -> Tensor:
    """Return a copy of a gradient with zeros in the second half of dimension `dim`, of size 2 * `rank`."""
    trained = gradient.narrow(dim, 0, rank)
    return torch.cat([trained, torch.zeros_like(trained)], dim)
