"""Changes the factors on combined adapters in a loaded model, so that a search over them loads it once."""

from collections.abc import Sequence

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from workbench.models.combining.lora_factors import PREFIX, LoraAdapter


class SwitchedWeights:
    """Rescales the update of each adapter in a model with several adapters combined by the method `cat`.

    `cat` puts the adapters' ranks one after the other, so multiplying an adapter's rows of A scales its
    update.
    """

    def __init__(self, model: PeftModel, adapters: Sequence[LoraAdapter]) -> None:
        """Store a copy of each layer's A; the factors of `set` are relative to this copy.

        Args:
            model: Model with the combined adapter as its only one; `set` changes it.
            adapters: The adapters that were combined, in the same order.
        """
        self.adapters = adapters
        self.matrices: list[tuple[Tensor, Tensor, Tensor]] = []
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                down = _down(module)
                owners = _owners(adapters, name.removeprefix(PREFIX)).to(down.device)
                self.matrices.append((down, down.detach().clone(), owners))

    def set(self, factors: Sequence[float]) -> None:
        """Multiply the update of each adapter, as it was at construction, by its factor in `factors`."""
        with torch.no_grad():
            for down, original, owners in self.matrices:
                by_rank = torch.tensor(factors, dtype=original.dtype, device=original.device)[owners]
                down.copy_(original * by_rank[:, None])


def _down(layer: LoraLayer) -> Tensor:
    """Return the matrix A of a layer's only adapter."""
    embeddings = list(layer.lora_embedding_A.values())
    matrix = embeddings[0] if embeddings else next(iter(layer.lora_A.values())).weight
    assert isinstance(matrix, Tensor)
    return matrix


def _owners(adapters: Sequence[LoraAdapter], layer: str) -> Tensor:
    """Return, for each rank of a layer's combination, the index of the adapter that the rank comes from."""
    ranks = [adapter.layers[layer].rank if layer in adapter.layers else 0 for adapter in adapters]
    return torch.repeat_interleave(torch.arange(len(adapters)), torch.tensor(ranks))
