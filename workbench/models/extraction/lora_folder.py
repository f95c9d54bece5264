"""Writes an adapter folder of peft: LoRA matrices of layers, and weights that are saved whole."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from workbench.models.adapters.adapter_config import CONFIG_FILE, WEIGHTS_FILE, tidy_config
from workbench.models.extraction.decompose import Extracted

ROOT = "base_model.model."
"""Beginning of all names in an adapter file."""


@dataclass
class Extraction:
    """Content of an extracted adapter: LoRA matrices of layers, and weights that it replaces.

    Also what it leaves out.
    """

    layers: list[Extracted] = field(default_factory=list)
    rest: dict[str, float] = field(default_factory=dict)
    """Name in the tuned file -> |difference| / |base|, for each changed weight that a LoRA can't represent;
    1 if the base lacks the weight."""
    whole_weights: dict[str, Tensor] = field(default_factory=dict)
    """Name -> weight that the adapter replaces as a whole; the name is that in the tuned or adapter file."""
    num_equal: int = 0
    """Number of tensors that are equal in both checkpoints; 0 after a conversion."""

    @property
    def energy_kept(self) -> float:
        """Return the share of the squared difference of all layers (at least one) that the LoRA has."""
        total = sum(layer.energy for layer in self.layers)
        return sum(layer.share * layer.energy for layer in self.layers) / total


def write_lora(extraction: Extraction, folder: Path, base_name: str | None, task_type: str | None) -> None:
    """Write an adapter's adapter_config.json and tensors, with the scale 1.

    Args:
        extraction: At least one layer, and weights that are replaced as a whole.
        folder: Existing folder.
        base_name: Name of the base for adapter_config.json; None: null.
        task_type: Task for adapter_config.json, such as CAUSAL_LM; None: null.
    """
    ranks = {layer.name: layer.rank for layer in extraction.layers}
    most = max(ranks.values())
    others = {re.escape(name): rank for name, rank in ranks.items() if rank != most}
    saved = sorted(
        {name.rpartition(".")[0] for name in extraction.whole_weights}
    )  # whole names: peft matches ends
    config = LoraConfig(
        task_type=task_type,
        r=most,
        lora_alpha=most,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=sorted(ranks),
        modules_to_save=saved or None,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    tidy_config(folder / CONFIG_FILE, base_name)
    tensors: dict[str, Tensor] = {}
    for layer in extraction.layers:
        tensors |= _matrices(layer)
    tensors |= {ROOT + name: tensor.contiguous() for name, tensor in extraction.whole_weights.items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _matrices(layer: Extracted) -> dict[str, Tensor]:
    """Return a layer's matrices A and B under peft's names; those of an embedding are transposed."""
    if layer.is_embedding:
        return {
            f"{ROOT}{layer.name}.lora_embedding_A": layer.up.T.contiguous(),
            f"{ROOT}{layer.name}.lora_embedding_B": layer.down.T.contiguous(),
        }
    return {f"{ROOT}{layer.name}.lora_A.weight": layer.down, f"{ROOT}{layer.name}.lora_B.weight": layer.up}
