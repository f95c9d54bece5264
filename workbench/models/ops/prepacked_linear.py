"""Weights in the order in which the processor multiplies them, kept while text is decoded on a CPU.

A product with a few tokens costs the reading of the weight. oneDNN first lays a bfloat16 weight out anew,
every time; here that is done once. The copy lives as long as the stretch of decoding that it was made for, so
no weight can change under it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from workbench.machine import total_bytes
from workbench.models.ops import int8_linear
from workbench.models.ops.cpu_attention import multiplies_bfloat16
from workbench.models.ops.fused import is_plain
from workbench.models.ops.loss import is_plain_linear

FEW = 32  # tokens: above, the arithmetic hides the layout
SHARE = 0.125  # of the machine's memory, at most, goes into copies


class _Copies:
    """The copies of one stretch of decoding."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.room = SHARE * total_bytes()
        self.calls: Counter[nn.Module] = Counter()
        self.weights: dict[nn.Module, Tensor | None] = {}

    def of(self, layer: nn.Module) -> Tensor | None:
        """The copy of the layer's weight; None while there is none yet, or if it isn't to have one."""
        if layer not in self.weights:
            self.calls[layer] += 1
            if self.calls[layer] > self.patience:
                self.weights[layer] = self._made(layer)
        return self.weights.get(layer)

    def _made(self, layer: nn.Module) -> Tensor | None:
        if not is_plain_linear(layer):
            return None
        weight: Tensor = layer.weight  # type: ignore[assignment]
        self.room -= weight.nbytes
        if self.room < 0 or weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
            return None
        made: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
        return made


_copies: ContextVar[_Copies | None] = ContextVar("copies", default=None)


@contextmanager
def prepacked(patience: int = 0) -> Iterator[None]:
    """Decode faster within; no weight may change meanwhile.

    Args:
        patience: Products of a layer with few tokens before its weight is copied. A copy costs about five of
            them; with 0 the rounding of a product doesn't depend on what came before it.
    """
    if is_plain() or _copies.get() is not None or not multiplies_bfloat16():
        yield
        return
    token = _copies.set(_Copies(patience))
    try:
        yield
    finally:
        _copies.reset(token)


def multiply(layer: nn.Module, hidden: Tensor) -> Tensor:
    """What `layer` gives for `hidden` (..., I)."""
    if is_plain():
        return layer(hidden)  # type: ignore[no-any-return]
    if int8_linear.is_eight_bit(layer):
        return int8_linear.multiply(layer, hidden)
    copies = _copies.get()
    few = copies is not None and hidden.numel() <= FEW * hidden.shape[-1]
    if copies is None or not few or torch.is_grad_enabled() or hidden.dtype != torch.bfloat16:
        return layer(hidden)  # type: ignore[no-any-return]
    weight = copies.of(layer)
    if weight is None:
        return layer(hidden)  # type: ignore[no-any-return]
    return torch.ops.mkldnn._linear_pointwise(hidden, weight, None, "none", [], "")  # type: ignore[no-any-return]
