"""Runs a model with one layer's weights in memory: each is read before the layer's call, and freed after it.

The model class's own forward runs, so that masks, positions and attention are as usual.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.machine import release_freed
from workbench.models.merging.adapter_updates import NotStreamable

WRAPPERS = ("base_layer", "original_module", "token_adapter")
"""Attributes of peft's layers that refer to the base's layer."""
Read = Callable[[str, Tensor], None]
"""Function that writes the base model's weight of a name into a tensor, rounded to the tensor's dtype."""


@contextmanager
def filled_when_called(model: PreTrainedModel, read: Read, device: torch.device) -> Iterator[None]:
    """Within the context, read the weights of each layer of `model` before its call, and free them after.

    Args:
        model: Its parameters on the meta device are read; the others, such as an adapter's, stay as they are.
        read: Writes the weight of a name into a CPU tensor, whose memory the next layer reuses.
        device: Device on which the model computes.

    Raises:
        NotStreamable: A module has both parameters of its own and a list of layers.
    """
    handles, memory = [], _Memory()
    for name, block in blocks(model):
        handles.append(block.register_forward_pre_hook(_filler(name, block, read, device, memory)))
        handles.append(block.register_forward_hook(_freer(block, memory), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def blocks(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) for each set of weights in memory together: a layer, embedding, norm or head.

    `prefix` is the name of `module`, with which all names begin.

    Raises:
        NotStreamable: A module has both parameters of its own and a list of layers.
    """
    if not any(isinstance(child, nn.ModuleList) for child in module.modules()):
        yield prefix, module
        return
    if not isinstance(module, nn.ModuleList) and next(module.parameters(recurse=False), None) is not None:
        raise NotStreamable(f"{prefix} has parameters besides its layers")
    for name, child in module.named_children():
        yield from blocks(child, f"{prefix}.{name}" if prefix else name)


def empty_parameters(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module, str]]:
    """Yield for each parameter on the meta device: name in the base model, its module, name in that module.

    `prefix` is the name of `module` in the model.
    """
    for inner_name, inner in module.named_modules(prefix=prefix):
        for name, parameter in inner.named_parameters(recurse=False):
            if parameter.device.type == "meta":
                yield base_name(f"{inner_name}.{name}".lstrip(".")), inner, name


def base_name(name: str) -> str:
    """Remove peft's attributes from a weight's name: `q_proj.base_layer.weight` -> `q_proj.weight`."""
    return ".".join(segment for segment in name.split(".") if segment not in WRAPPERS)


class _Memory:
    """Memory of the last block's weights, which the next block reuses for the same shapes and dtypes.

    New memory comes from the system in pages that it clears, which takes longer than to fill them.
    """

    def __init__(self) -> None:
        self.free: dict[tuple[torch.Size, torch.dtype], list[Tensor]] = {}

    def keep(self, parameters: Iterable[Tensor]) -> None:
        """Free the tensors whose shape and dtype none of `parameters` has."""
        needed = {(parameter.shape, parameter.dtype) for parameter in parameters}
        reusable = {key: tensors for key, tensors in self.free.items() if key in needed}
        is_less, self.free = len(reusable) < len(self.free), reusable
        if is_less:
            release_freed()

    def take(self, parameter: Tensor) -> Tensor:
        """Return a CPU tensor for the values of a parameter: a reused one, else a new one."""
        tensors = self.free.get((parameter.shape, parameter.dtype))
        return tensors.pop() if tensors else torch.empty(parameter.shape, dtype=parameter.dtype)

    def give(self, values: Tensor) -> None:
        """Put back a tensor from `take`, so that it can be reused."""
        self.free.setdefault((values.shape, values.dtype), []).append(values)


def _filler(name: str, block: nn.Module, read: Read, device: torch.device, memory: _Memory) -> Any:
    """Return a hook that fills the parameters of a block with `read` before the block's call."""

    def fill(*_: Any) -> None:
        parameters = list(empty_parameters(block, name))
        memory.keep(getattr(module, parameter) for _, module, parameter in parameters)
        for full_name, module, parameter in parameters:
            values = memory.take(getattr(module, parameter))
            read(full_name, values)
            filled = nn.Parameter(values.to(device), requires_grad=False)
            filled.memory = values  # type: ignore[attr-defined]
            setattr(module, parameter, filled)

    return fill


def _freer(block: nn.Module, memory: _Memory) -> Any:
    """Return a hook that moves the filled parameters of a block back to the meta device after its call."""

    def free(*_: Any) -> None:
        for module in block.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if (values := getattr(parameter, "memory", None)) is not None:
                    memory.give(values)
                    setattr(module, name, nn.Parameter(parameter.to("meta"), requires_grad=False))

    return free


def allocate_others(model: PreTrainedModel, names: Collection[str]) -> None:
    """Replace the adapter's parameters on the meta device by zeros on the CPU; the base's stay.

    Args:
        model: Base with an adapter, changed in place.
        names: Names of the base model's parameters.
    """
    for full_name, module, name in list(empty_parameters(model)):
        if full_name not in names:
            parameter: Any = getattr(module, name)
            zeros = torch.zeros(parameter.shape, dtype=parameter.dtype)
            setattr(module, name, nn.Parameter(zeros, requires_grad=False))


def restore_buffers(model: PreTrainedModel, device: torch.device) -> None:
    """Replace the rotary embeddings of a model that was created on the meta device by new ones on `device`.

    Their frequencies are buffers, which no file contains; the configuration determines them.

    Raises:
        NotStreamable: A module has other buffers than those of a rotary embedding.
    """
    for name, module in list(model.named_modules()):
        if not any(buffer.device.type == "meta" for _, buffer in module.named_buffers(recurse=False)):
            continue
        if not type(module).__name__.endswith("RotaryEmbedding"):
            raise NotStreamable(f"{name} has buffers that are not in the files")
        created: Any = type(module)
        model.set_submodule(name, created(config=module.config).to(device))


def set_dtype(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Set the dtype of a model's parameters and of its configuration in place.

    Buffers stay as they are: a loaded model's rotary frequencies are float32.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
