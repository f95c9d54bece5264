"""Keeps activations in the machine's memory between the forward and the backward pass of a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LEAST_BYTES = 1 << 16
"""Smaller tensors stay, as a copy of them costs more than their memory."""

Packed = Tensor | tuple[torch.device, Tensor]
"""What autograd stores of a tensor: itself, or its device and a copy in the machine's memory."""


@contextmanager
def offloaded_activations(model: nn.Module) -> Iterator[None]:
    """Within the block, move what autograd stores for the backward pass to the machine's memory.

    The backward pass copies each tensor back when it needs it. Values don't change. The model's own weights
    and buffers, of which autograd stores references, stay where they are.
    """
    tensors = [*model.parameters(), *model.buffers()]
    own = {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.device.type != "meta"}

    def pack(tensor: Tensor) -> Packed:
        is_own = tensor.untyped_storage().data_ptr() in own
        if is_own or tensor.nbytes < LEAST_BYTES or not is_on_gpu(tensor):
            return tensor
        copy = torch.empty(
            tensor.shape, dtype=tensor.dtype, layout=tensor.layout, pin_memory=torch.cuda.is_available()
        )
        copy.copy_(tensor)
        return tensor.device, copy

    def unpack(packed: Packed) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        device, copy = packed
        return copy.to(device, non_blocking=True)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def is_on_gpu(tensor: Tensor) -> bool:
    """Return whether a tensor is a dense one in a GPU's memory."""
    return tensor.is_cuda and tensor.layout is torch.strided
