"""Adapters that start from the base's own weights, and leave it as it is, quantized or not.

PiSSA and OLoRA take the start's product out of the base weights. Here a frozen negative copy of the start
lies beside it instead, in an adapter of twice the rank: the same function and the same gradient, over a base
that is the one on the disk.
"""

from typing import cast

import torch
from peft.tuners.lora import LoraLayer, LoraModel
from torch import Tensor

from workbench.config.adapter import AdapterInit
from workbench.errors import ConfigError
from workbench.models.quantization import float_weight

FROM_WEIGHTS = (AdapterInit.pissa, AdapterInit.olora)


def start_from_weights(model: LoraModel, init: AdapterInit, adapter: str = "default") -> None:
    """Fill each layer's A and B, whose first halves are trained and whose second halves take the start out.

    Args:
        model: Its adapter has twice the rank that is trained.
        init: pissa or olora.
        adapter: The adapter's name.

    Raises:
        ConfigError: a rank that a layer is too small for, or a layer that isn't linear.
    """
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer) or adapter not in layer.r:
            continue
        if adapter not in layer.lora_A:
            raise ConfigError(f"adapter.init: {init.name!r} needs linear layers, {name} is none")
        down, up = cast(Tensor, layer.lora_A[adapter].weight), cast(Tensor, layer.lora_B[adapter].weight)
        rank = layer.r[adapter] // 2
        weight = float_weight(layer.get_base_layer(), up.dtype).to(down.device)  # (out, in)
        if rank > min(weight.shape):
            raise ConfigError(f"adapter.rank: {rank} is too many for {name} (at most {min(weight.shape)})")
        first_down, first_up = START[init](weight, rank, float(layer.scaling[adapter]))
        with torch.no_grad():
            down.copy_(torch.cat([first_down, first_down]))
            up.copy_(torch.cat([first_up, -first_up], 1))
        down.register_hook(lambda gradient, rank=rank: half(gradient, rank, 0))  # type: ignore[no-untyped-call]
        up.register_hook(lambda gradient, rank=rank: half(gradient, rank, 1))  # type: ignore[no-untyped-call]


def pissa(weight: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    """A (rank, in) and B (out, rank) whose scaled product is the best approximation of a weight (out, in).

    Source: PiSSA, arXiv:2404.02948, section 3.
    """
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = (values[:rank] / scaling).sqrt()
    return root[:, None] * right[:rank], left[:, :rank] * root


def olora(weight: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    """A (rank, in) and B (out, rank), the first rows and columns of the weight's QR decomposition.

    Source: OLoRA, arXiv:2406.01775, section 3.
    """
    orthogonal, triangular = torch.linalg.qr(weight)
    return triangular[:rank], orthogonal[:, :rank]


START = {AdapterInit.pissa: pissa, AdapterInit.olora: olora}


def half(gradient: Tensor, rank: int, dim: int) -> Tensor:
    """The gradient with the second half of its ranks at zero, which leaves them where they are."""
    kept = gradient.narrow(dim, 0, rank)
    return torch.cat([kept, torch.zeros_like(kept)], dim)
