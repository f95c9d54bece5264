"""Counts what a training stores for its backward pass, by running the model's own code without values.

The tensors are PyTorch's fake ones: they have shapes and dtypes, and take no memory. The copies that a model
makes of attention scores (soft cap, softmax in float32, dropout) and in its norms and MLPs are counted, too.
"""

import logging
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel

from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.ops.fused import not_compiled, plain_layers
from workbench.models.trials.fused_norms import use_fused_norms
from workbench.models.trials.lora_layers import use_lora_products

logger = logging.getLogger("torch._subclasses.fake_tensor")
LENGTH = 16
"""Tokens of the shortest of three rows that are counted; the others are two and three times as long."""


def count_saved_bytes(
    model: PreTrainedModel, *, fused: bool, autocast: torch.dtype | None = None
) -> tuple[float, float] | None:
    """Return what a training of the model stores for its layers, without head and loss.

    Args:
        model: A model on the meta device, in its dtype, with the adapter that is trained; it gets fake
            weights, and can't be used afterwards.
        fused: `model.fused`; with it, norms and LoRA layers store no float32 copies.
        autocast: 16-bit dtype of matrix products with float32 weights; None: no autocast.

    Returns:
        Bytes for each token, and for each pair of tokens of a row, as attention that stores scores has them;
        None if the model's code depends on values, or fails.
    """
    context = nullcontext() if autocast is None else torch.autocast("cpu", autocast)
    was_disabled, logger.disabled = logger.disabled, True  # it logs the traceback of an operation that fails
    try:
        if fused:
            use_fused_norms(model)
        kernels = not_compiled() if fused else plain_layers()
        with kernels, FakeTensorMode(allow_non_fake_inputs=True), context:
            _fill(model)
            if fused:
                use_lora_products(model)
            model.train()
            first, second, third = (_saved_by(model.base_model, number * LENGTH) for number in (1, 2, 3))
    except BROKEN:
        return None
    finally:
        logger.disabled = was_disabled
    per_pair = (third - 2 * second + first) / (2 * LENGTH**2)
    return (second - first) / LENGTH - 3 * LENGTH * per_pair, per_pair


def _fill(model: nn.Module) -> None:
    """Replace all weights and buffers on the meta device by tensors of the current mode on the CPU."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and id(weight) not in made:
                values = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
                made[id(weight)] = nn.Parameter(values, requires_grad=weight.requires_grad)
            module._parameters[name] = None if weight is None else made[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


def _saved_by(layers: nn.Module, length: int) -> int:
    """Return the bytes that autograd stores in a forward pass over one row, weights aside."""
    stored: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        stored[storage._cdata] = storage
        return tensor

    ids = torch.zeros(1, length, dtype=torch.long)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = layers(input_ids=ids, use_cache=False)
    weights = {weight.untyped_storage()._cdata for weight in layers.parameters()}
    del outputs
    return sum(storage.nbytes() for address, storage in stored.items() if address not in weights)
