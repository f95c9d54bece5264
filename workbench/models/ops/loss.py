"""Losses: of a causal language model without holding the logits of a whole batch, and of a classifier.

With 100,000 tokens in the vocabulary the logits are two hundred times as large as the hidden states they come
from. Here they exist for a chunk of positions at a time; their gradient follows at once, so that nothing of
the size of the vocabulary waits for the backward pass. Positions without a label cost nothing.

Shapes: B batch, S tokens, H hidden size, V vocabulary, T labelled positions of the batch, N classes.
"""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from workbench.labels import IGNORED
from workbench.models.ops.elementwise import product_dtype
from workbench.models.ops.fused import is_plain
from workbench.models.ops.hooks import has_hooks

CHUNK_BYTES = 1 << 27  # of logits at a time, were they float32; larger chunks are no faster
CACHE_BYTES = 1 << 21  # of logits that a CPU turns to float32 at a time


def causal_lm_loss(
    head: nn.Module,
    hidden: Tensor,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    shift_labels: Tensor | None = None,
) -> Tensor:
    """Mean negative log-likelihood, in nats and float32, of each label given the tokens before it.

    Args:
        head: Gives the logits of hidden states; a plain linear layer without bias is computed in chunks by
            hand.
        hidden: (B, S, H); position t predicts label t + 1.
        labels: (B, S) token ids, -100 where nothing is to be predicted.
        num_items_in_batch: Divisor of the sum; default: the labels that count here.
        shift_labels: (B, S), used in place of `labels`: position t predicts label t.

    Returns:
        A scalar; NaN if there are no labels and no divisor, as in PyTorch.
    """
    rows, labels = _labelled(hidden, _shifted(labels) if shift_labels is None else shift_labels)
    weight = _weight(head)
    if weight is None:
        total = _total_by_module(head, rows, labels)
    else:
        total = _ChunkedLoss.apply(rows, weight, labels)  # type: ignore[no-untyped-call]
    return _divided(total, labels, num_items_in_batch)


def loss_of_logits(
    logits: Tensor,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    shift_labels: Tensor | None = None,
) -> Tensor:
    """The same loss where the logits (B, S, V) are there anyway."""
    shifted = _shifted(labels) if shift_labels is None else shift_labels
    if is_plain():  # under torch.compile how many labels there are would end the graph
        flat = shifted.to(logits.device).flatten()
        total = F.cross_entropy(logits.flatten(0, 1).float(), flat, ignore_index=IGNORED, reduction="sum")
        return total / ((flat != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
    rows, labels = _labelled(logits, shifted)
    return _divided(F.cross_entropy(rows.float(), labels, reduction="sum"), labels, num_items_in_batch)


def _shifted(labels: Tensor) -> Tensor:
    """(B, S): at each position the label that it predicts, the next one."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def _labelled(states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of (B, S, ...) states the rows (T, ...) that predict a label of (B, S), and these labels (T,)."""
    labels = labels.to(states.device).flatten()  # (B * S,)
    positions = (labels != IGNORED).nonzero().flatten()
    return states.flatten(0, 1)[positions], labels[positions]


def _divided(total: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    divisor = len(labels) if num_items_in_batch is None else num_items_in_batch
    return total / (divisor.to(total.device) if isinstance(divisor, Tensor) else divisor)


def _weight(head: Any) -> Tensor | None:
    """The matrix by which the head multiplies, if that is all it does; with peft's trained rows within."""
    wrappers = getattr(sys.modules.get("peft.utils.other"), "TrainableTokensWrapper", ())
    if isinstance(head, wrappers):
        plain = head.original_module
        weight: Tensor = plain.weight if head.disable_adapters else head.weight
        return weight if is_plain_linear(plain) else None
    return head.weight if is_plain_linear(head) else None


def is_plain_linear(module: nn.Module) -> bool:
    """Whether calling `module` is a product with its weight: no adapter, quantization or hook."""
    return type(module) is nn.Linear and module.bias is None and not has_hooks(module)


class _ChunkedLoss(torch.autograd.Function):
    """Summed loss of rows (T, H) under the weight (V, H), with the gradients made in the forward pass."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        dtype = product_dtype(rows)
        product_weight = weight.to(dtype)
        rows_grad = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), device=rows.device)
        chunks = _chunks(len(rows), len(weight))
        # The same memory for every chunk.
        logits = rows.new_empty((chunks[0].stop if chunks else 0, len(weight)), dtype=dtype)
        with torch.autocast(rows.device.type, enabled=False):
            for part in chunks:
                chunk = rows[part].to(dtype)
                product = logits[: len(chunk)]
                torch.mm(chunk, product_weight.t(), out=product)
                total += _losses_and_slopes(product, labels[part])
                if rows_grad is not None:
                    rows_grad[part] = product @ product_weight
                if weight_grad is not None:
                    _add_product(weight_grad, product.t(), chunk)
        if weight_grad is not None and weight.dtype != torch.float16:  # which the undivided sum can overflow
            weight_grad = weight_grad.to(weight.dtype)
        ctx.save_for_backward(rows_grad, weight_grad)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows_grad, weight_grad = ctx.saved_tensors
        return (
            None if rows_grad is None else rows_grad * gradient.to(rows_grad.dtype),
            None if weight_grad is None else (weight_grad * gradient.to(weight_grad.dtype)).to(ctx.dtype),
            None,
        )


def _losses_and_slopes(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed loss of the logits (T, V), which are overwritten by its slope, computed in float32.

    On a CPU so few rows at a time that they stay in its cache.
    """
    size = max(1, CACHE_BYTES // (4 * logits.shape[1])) if logits.device.type == "cpu" else len(logits)
    total = logits.new_zeros((), dtype=torch.float32)
    pieces = zip(torch.split(logits, size), torch.split(labels, size), strict=True)
    for few, some in pieces:
        exact = few.float()
        total += _losses_and_slope(exact, some).sum()
        if exact is not few:
            few.copy_(exact)
    return total


def _losses_and_slope(logits: Tensor, labels: Tensor) -> Tensor:
    """Losses (T,) of the logits (T, V), which are overwritten by the slope of their loss."""
    at_label = logits.gather(1, labels[:, None])  # (T, 1)
    highest = logits.amax(1, keepdim=True)
    torch.softmax(logits, 1, out=logits)
    normaliser = (
        highest - logits.amax(1, keepdim=True).log()
    )  # the highest has a probability of 1 / V or more
    logits.scatter_add_(1, labels[:, None], torch.full_like(at_label, -1.0))
    return (normaliser - at_label).squeeze(1)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _total_by_module(head: nn.Module, rows: Tensor, labels: Tensor) -> Tensor:
    """The same sum with the logits from calling `head`, made again chunk by chunk in the backward pass."""

    def chunk_loss(rows: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(head(rows).float(), labels, reduction="sum")

    total = rows.sum() * 0.0  # a sum over no chunk still has a gradient
    for part in _chunks(len(rows), int(head.out_features)):  # type: ignore[arg-type]
        total = total + checkpoint(chunk_loss, rows[part], labels[part], use_reentrant=False)
    return total


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_BYTES // (4 * vocabulary))
    return [slice(start, start + size) for start in range(0, rows, size)]


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    problem_type: str | None = None,
    num_items_in_batch: Tensor | int | None = None,
) -> Tensor:
    """Mean loss of `logits` (B, N) in float32.

    Args:
        logits: (B, N).
        labels: (B,) classes, or (B, N) memberships or targets; (B,) targets if N is 1.
        problem_type: transformers' name of the problem. None: regression if N is 1, else one class for whole
            numbers of 32 or 64 bits and several classes for anything else.
        num_items_in_batch: Divisor of the sum; default: the labels that count here.
    """
    logits, labels = logits.float(), labels.to(logits.device)
    if problem_type is None:
        one_class = labels.dtype in (torch.int32, torch.int64)
        problem_type = "single_label_classification" if one_class else "multi_label_classification"
        problem_type = "regression" if logits.shape[-1] == 1 else problem_type
    if problem_type == "single_label_classification":
        labels = labels.flatten().long()
        total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        return _divided(total, labels[labels != IGNORED], num_items_in_batch)
    labels = labels.view_as(logits).float()
    if problem_type == "multi_label_classification":
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    else:
        total = F.mse_loss(logits, labels, reduction="sum")
    return _divided(total, labels.flatten(), num_items_in_batch)
