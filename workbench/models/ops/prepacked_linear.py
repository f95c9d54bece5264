"""Prepacks bfloat16 weights in oneDNN's memory layout while text is decoded on a CPU.

A product with few tokens takes as long as reading the weight. oneDNN reorders a bfloat16 weight in every
product; here it is reordered once. The copies exist only within the context of decoding, in which weights
must not change.
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
from workbench.models.ops.hooks import has_hooks

MAX_TOKENS = 32  # with more tokens, the arithmetic takes longer than reordering
SHARE = 0.125  # limit on the copies, as a share of the machine's memory


class _Copies:
    """Prepacked copies of weights within one `prepacked` context."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.free_bytes = SHARE * total_bytes()
        self.calls: Counter[nn.Module] = Counter()
        self.weights: dict[nn.Module, Tensor | None] = {}

    def of(self, layer: nn.Module) -> Tensor | None:
        """Count the call, and return the prepacked weight; None if it isn't made yet, or not possible."""
        if layer not in self.weights:
            self.calls[layer] += 1
            if self.calls[layer] > self.patience:
                self.weights[layer] = self._pack(layer)
        return self.weights.get(layer)

    def _pack(self, layer: nn.Module) -> Tensor | None:
        if type(layer) is not nn.Linear or has_hooks(layer):
            return None
        weight: Tensor = layer.weight
        self.free_bytes -= weight.nbytes
        if self.free_bytes < 0 or weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
            return None
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
        return packed


_copies: ContextVar[_Copies | None] = ContextVar("copies", default=None)


@contextmanager
def prepacked(patience: int = 0) -> Iterator[None]:
    """Within the context, let `multiply` use prepacked copies of weights, which are freed afterwards.

    No weight may change within the context, since its copy wouldn't.

    It has no effect inside another such context, with `model.fused` off, or without bfloat16 instructions.

    Args:
        patience: Number of a layer's products with few tokens before its weight is copied. A copy takes as
            long as about five products. With 0, all of these products use the copy, so that rounding doesn't
            depend on earlier products.
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
    """Return `layer(hidden)` for `hidden` (..., I), computed by the fastest kernel that fits.

    Within `prepacked`, products with few tokens use a copy of the weight.
    """
    if is_plain():
        return layer(hidden)  # type: ignore[no-any-return]
    if int8_linear.is_eight_bit(layer):
        return int8_linear.multiply(layer, hidden)
    copies = _copies.get()
    is_small = copies is not None and hidden.numel() <= MAX_TOKENS * hidden.shape[-1]
    if copies is None or not is_small or torch.is_grad_enabled() or hidden.dtype != torch.bfloat16:
        return layer(hidden)  # type: ignore[no-any-return]
    weight = copies.of(layer)
    if weight is None:
        return layer(hidden)  # type: ignore[no-any-return]
    return torch.ops.mkldnn._linear_pointwise(hidden, weight, layer.bias, "none", [], "")  # type: ignore[no-any-return]
