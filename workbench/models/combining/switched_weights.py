"""Changes the weights of combined adapters in a loaded model: one load serves all weights of a search."""

from collections.abc import Sequence

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from workbench.models.combining.lora_factors import PREFIX, LoraAdapter


class SwitchedWeights:
    """The factor on each adapter of a combination by cat, in which each has ranks of its own."""

    def __init__(self, model: PeftModel, adapters: Sequence[LoraAdapter]) -> None:
        """Remember the matrices A as they are, with the factor 1 on each adapter.

        Args:
            model: Model with the combination.
            adapters: The combined adapters, in order.
        """
        self.adapters = adapters
        self.matrices: list[tuple[Tensor, Tensor, Tensor]] = []
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                down = _down(module)
                owners = _owners(adapters, name.removeprefix(PREFIX)).to(down.device)
                self.matrices.append((down, down.detach().clone(), owners))

    def set(self, factors: Sequence[float]) -> None:
        """Multiply the update of each adapter, as it was combined, by its factor."""
        with torch.no_grad():
            for down, original, owners in self.matrices:
                by_rank = torch.tensor(factors, dtype=original.dtype, device=original.device)[owners]
                down.copy_(original * by_rank[:, None])


def _down(layer: LoraLayer) -> Tensor:
    """Return A of the only adapter of a layer."""
    embeddings = list(layer.lora_embedding_A.values())
    matrix = embeddings[0] if embeddings else next(iter(layer.lora_A.values())).weight
    assert isinstance(matrix, Tensor)
    return matrix


def _owners(adapters: Sequence[LoraAdapter], layer: str) -> Tensor:
    """Return the number of the adapter that each rank of a layer's combination belongs to."""
    ranks = [adapter.layers[layer].rank if layer in adapter.layers else 0 for adapter in adapters]
    return torch.repeat_interleave(torch.arange(len(adapters)), torch.tensor(ranks))
