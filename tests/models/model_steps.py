"""Small models by name, and what one training step of them gives."""

import torch
from causal_kinds import kind
from relatives import RELATIVES, relative
from torch import nn


def small_model(name: str, **fields):
    """The relative of LLaMA, or the other causal model, of this name."""
    return relative(name, **fields) if name in RELATIVES else kind(name, **fields)


def changed_modules(model) -> list[nn.Module]:
    """The modules whose forward was replaced."""
    return [module for module in model.modules() if "forward" in vars(module)]


def step_results(model):
    """Logits, loss and gradients of a training step."""
    ids = torch.randint(3, 96, (2, 20), generator=torch.Generator().manual_seed(3))
    torch.manual_seed(5)  # of dropout
    output = model.train()(input_ids=ids, labels=ids, use_cache=False)
    output.loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return output.logits.detach(), output.loss.detach(), gradients
