"""The toy model with noise in place of its weights, which answers worse."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from workbench.shipped import PACKAGE

TOY = PACKAGE / "toy" / "base"


def noisy_toy(folder: Path, share: float) -> Path:
    """Write the toy model with `share` of its layers' matrices replaced by noise of their size, 0 to 1."""
    shutil.copytree(TOY, folder)
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    changed = {
        name: (1 - share) * value + share * torch.randn_like(value) * value.std()
        if value.dim() > 1 and "layers" in name
        else value
        for name, value in weights.items()
    }
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
