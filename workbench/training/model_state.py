"""The model and the process are left as they were found."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from workbench.contexts import restored_modes


def put_together(model: PreTrainedModel | PeftModel) -> None:
    """Make trained weights whole again that FSDP has spread over the processes; all must call it."""
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.requires_grad and isinstance(weight.data, DTensor):
                setattr(module, name, nn.Parameter(weight.data.full_tensor().cpu()))


@contextmanager
def as_before(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Leave the mode of each layer (train or eval), cache and checkpointing as they were before."""
    use_cache = model.config.use_cache
    try:
        with restored_modes(model):
            yield
    finally:
        model.config.use_cache = use_cache
        if model.is_activation_checkpointing:
            model.activation_checkpointing_disable()
