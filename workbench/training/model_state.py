"""Restores a model's modes and settings after training, and gathers weights that FSDP has sharded."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from workbench.contexts import restored_modes


def gather_trained_weights(model: PreTrainedModel | PeftModel) -> None:
    """Replace, in the model, each trained weight that FSDP has sharded by the full weight on the CPU.

    Every rank must call this. Without FSDP nothing changes.
    """
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.requires_grad and isinstance(weight.data, DTensor):
                setattr(module, name, nn.Parameter(weight.data.full_tensor().cpu()))


@contextmanager
def restored_model_state(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """After the `with` block, restore the modules' modes (train or eval) and the configuration's `use_cache`.

    Activation checkpointing is off afterwards, even if it was on before.
    """
    use_cache = getattr(model.config, "use_cache", None)  # a composite configuration has none of its own
    try:
        with restored_modes(model):
            yield
    finally:
        if use_cache is not None:
            model.config.use_cache = use_cache
        if model.is_activation_checkpointing:
            model.activation_checkpointing_disable()
