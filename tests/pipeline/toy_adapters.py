"""LoRA adapters of the toy model, written as peft does."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from workbench.models import OpenLlamaForCausalLM
from workbench.shipped import PACKAGE

TOY = PACKAGE / "toy" / "base"


def toy_adapter(folder: Path, seed: int, **fields: Any) -> str:
    """Write an adapter with random matrices, and return its path."""
    settings = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
    model = get_peft_model(OpenLlamaForCausalLM.from_pretrained(TOY), LoraConfig(**(settings | fields)))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    return str(folder)
