"""Disables an adapter's layers, to compute the logits from which the adapter's effect is measured."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from peft.utils import ModulesToSaveWrapper

from workbench.models.adapters.adapter_config import HEAD


@contextmanager
def without_layers(model: PeftModel) -> Iterator[None]:
    """Disable the adapter within the context, except for its classification head: the base's is random."""
    with model.disable_adapter():
        for name, module in model.named_modules():
            if isinstance(module, ModulesToSaveWrapper) and name.endswith(f".{HEAD}"):
                module.enable_adapters(True)
        yield
