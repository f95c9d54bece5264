"""The model and the process are left as they were found."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers; errors are raised as ever."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def put_together(model: PreTrainedModel | PeftModel) -> None:
    """Make trained weights whole again that FSDP has spread over the processes; all must call it."""
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.requires_grad and isinstance(weight.data, DTensor):
                setattr(module, name, nn.Parameter(weight.data.full_tensor().cpu()))


@contextmanager
def as_before(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Leave the mode of each layer (train or eval), cache and checkpointing as they were before."""
    modes = {module: module.training for module in model.modules()}
    use_cache = model.config.use_cache
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        model.config.use_cache = use_cache
        if model.is_activation_checkpointing:
            model.activation_checkpointing_disable()
