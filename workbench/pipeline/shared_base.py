"""Keeps a base model in memory for the next run that uses the same one."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, set_seed

from workbench.config import Config
from workbench.config.history import hashed
from workbench.models.adapters import adapter_config, attach
from workbench.models.loading import load_model
from workbench.pipeline.step_inputs import content
from workbench.run_dir import fingerprint


@dataclass
class SharedBase:
    """A loaded base model, and whether an adapter has changed its weights."""

    model: PreTrainedModel
    key: str
    """Fingerprint of the weights' content and of how they are loaded."""
    peft_model: PeftModel | None = None
    is_changed: bool = False
    """Whether an adapter has changed the base's own weights."""

    def attached(self, adapter: Path) -> PeftModel:
        """Attach the adapter in the folder `adapter` to the base, in place, and return the PeftModel.

        Raises:
            CheckpointError: The adapter is missing or damaged, or doesn't fit the base.
        """
        self.is_changed = adapter_config.changes_base(adapter)
        self.peft_model = attach.load(self.model, adapter)
        return self.peft_model

    def detach(self) -> None:
        """Remove the adapter's layers from the base; weights that the adapter has changed stay changed."""
        if self.peft_model is not None:
            self.peft_model.unload()
            self.peft_model = None


_held: ContextVar[list[SharedBase] | None] = ContextVar("held", default=None)
"""List with the previous run's base, empty if there is none; None outside of `sharing_base`."""


@contextmanager
def sharing_base() -> Iterator[None]:
    """Keep a run's base model loaded within the `with` block, for the next run if it has the same base."""
    token = _held.set([])
    try:
        yield
    finally:
        _held.reset(token)


@contextmanager
def shared_base(config: Config, num_labels: int | None) -> Iterator[SharedBase]:
    """Yield a run's base: the previous run's if it is the same, else a newly loaded one.

    Within `sharing_base` it stays loaded after the `with` block, without the adapter and with its original
    generation settings and labels, unless the block failed or an adapter changed its weights. The global
    seeds are set to the run's.

    Args:
        config: The run's configuration.
        num_labels: Number of classes of a classification head; None: as in the checkpoint.

    Raises:
        WorkbenchError: The base can't be loaded, see `load_model`.
    """
    held = _held.get()
    key = base_key(config, num_labels) if held is not None else ""
    if held and held[0].key != key:
        held.clear()  # before the next base is loaded
    set_seed(config.seed)  # an untrained head is the same each time
    base = held[0] if held else SharedBase(load_model(config.model, config.quantization, num_labels), key)
    if held is None:
        yield base
        return
    held.clear()  # a run that fails leaves nothing behind
    labels = deepcopy((base.model.config.id2label, base.model.config.label2id))
    generation = deepcopy(base.model.generation_config)
    yield base
    base.detach()
    base.model.config.id2label, base.model.config.label2id = labels
    base.model.generation_config = generation
    if not base.is_changed:
        held.append(base)


def base_key(config: Config, num_labels: int | None) -> str:
    """Return the fingerprint of everything that a loaded base depends on; arguments as of `shared_base`."""
    sections = [hashed(config.model, "model"), hashed(config.quantization, "quantization")]
    sections[0]["path"] = content(config.model.path)
    return fingerprint([*sections, num_labels, config.seed])
