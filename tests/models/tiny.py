"""A tiny Open-Llama in which every part matters, and token ids for it."""

import torch

from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM

TINY = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}


def tokens(batch=2, length=12, seed=0):
    return torch.randint(3, 101, (batch, length), generator=torch.Generator().manual_seed(seed))


def model(cls=OpenLlamaForCausalLM, seed=0, **fields):
    torch.manual_seed(seed)
    made = cls(OpenLlamaConfig(**{**TINY, **fields}))
    for name, weight in made.named_parameters():  # large enough that every part matters
        weight.data.normal_(0, 0.3).add_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return made.eval()
