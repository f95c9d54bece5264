"""Computes losses: of a causal language model without storing a batch's logits, and of a classifier.

With a vocabulary of 100,000 tokens, logits are two hundred times as large as hidden states. Here logits are
computed for one chunk of positions at a time, with their gradients, so that nothing of the size of the
vocabulary is stored for the backward pass. Positions without a label are skipped.

Shapes: B batch, S tokens, H hidden size, V vocabulary, T labelled positions of the batch, N classes.
"""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from workbench.config.names import IGNORED
from workbench.models.dtypes import product_dtype, without_autocast
from workbench.models.ops import liger
from workbench.models.ops.fused import is_plain
from workbench.models.ops.hooks import has_hooks
from workbench.models.ops.logit_map import IDENTITY, LogitMap

CHUNK_BYTES, GPU_CHUNK_BYTES = 1 << 27, 1 << 29
"""Bytes of a chunk's logits in float32, on a CPU, where larger chunks aren't faster, and on other devices."""
CACHE_BYTES = 1 << 21  # of logits that a CPU converts to float32 at a time


def causal_lm_loss(
    head: nn.Module,
    hidden: Tensor,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    shift_labels: Tensor | None = None,
    logit_map: LogitMap = IDENTITY,
    positions: Tensor | None = None,
) -> Tensor:
    """Compute the mean negative log-likelihood of each label given the tokens before it, in nats and float32.

    Args:
        head: Language model head; a plain linear layer without bias has a faster path.
        hidden: (B, S, H); position t predicts label t + 1.
        labels: (B, S) token ids, -100 where nothing is predicted.
        num_items_in_batch: Divisor of the sum; default: the number of labels other than -100.
        shift_labels: (B, S), used in place of `labels`: position t predicts label t.
        logit_map: Computes the logits from the head's output.
        positions: (T,) indices of the labelled positions among all B * S, which are read from the device
            otherwise.

    Returns:
        A scalar; NaN if there are no labels and no divisor, as in PyTorch.
    """
    shifted = _shifted(labels) if shift_labels is None else shift_labels
    rows, labels = _labelled(hidden, shifted, positions)
    weight = _weight(head)
    if weight is None:
        total = _total_by_module(head, rows, labels, logit_map)
    elif liger.is_enabled() and logit_map.is_identity and len(rows):
        total = liger.summed_loss(rows, weight, labels)
    else:
        total = _ChunkedLoss.apply(rows, weight, labels, logit_map)  # type: ignore[no-untyped-call]
    return _divided(total, labels, num_items_in_batch)


def loss_of_logits(
    logits: Tensor,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    shift_labels: Tensor | None = None,
) -> Tensor:
    """Compute the loss of `causal_lm_loss`, whose arguments have the same meaning, from logits (B, S, V)."""
    shifted = _shifted(labels) if shift_labels is None else shift_labels
    if is_plain():  # indexing by the number of labels would break the graph of torch.compile
        flat = shifted.to(logits.device).flatten()
        total = F.cross_entropy(logits.flatten(0, 1).float(), flat, ignore_index=IGNORED, reduction="sum")
        return total / ((flat != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
    rows, labels = _labelled(logits, shifted)
    return _divided(F.cross_entropy(rows.float(), labels, reduction="sum"), labels, num_items_in_batch)


def _shifted(labels: Tensor) -> Tensor:
    """Shift labels (B, S), so that each position has the label that it predicts."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def _labelled(states: Tensor, labels: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the states (T, ...) and labels (T,) of those positions whose label isn't -100.

    `states` is (B, S, ...) and `labels` (B, S), already shifted; `positions` are (T,) indices, if known.
    """
    labels = labels.to(states.device).flatten()  # (B * S,)
    if positions is None:
        positions = (labels != IGNORED).nonzero().flatten()
    return states.flatten(0, 1)[positions], labels[positions]


def _divided(total: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    divisor = len(labels) if num_items_in_batch is None else num_items_in_batch
    return total / (divisor.to(total.device) if isinstance(divisor, Tensor) else divisor)


def _weight(head: Any) -> Tensor | None:
    """Return the head's weight (V, H), including rows that peft trained.

    None for a head that does more than multiply by a weight: with a bias, hooks, an adapter or quantization.
    """
    wrappers = getattr(sys.modules.get("peft.utils.other"), "TrainableTokensWrapper", ())
    if isinstance(head, wrappers):
        plain = head.original_module
        weight: Tensor = plain.weight if head.disable_adapters else head.weight
        return weight if is_plain_linear(plain) else None
    return head.weight if is_plain_linear(head) else None


def is_plain_linear(module: nn.Module) -> bool:
    """Return whether `module` is a linear layer without bias, adapter, quantization and hooks."""
    return type(module) is nn.Linear and module.bias is None and not has_hooks(module)


class _ChunkedLoss(torch.autograd.Function):
    """Summed loss of rows (T, H) under the weight (V, H), with gradients computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, labels: Tensor, logit_map: LogitMap) -> Tensor:
        dtype = product_dtype(rows)
        product_weight = weight.to(dtype)
        rows_grad = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), device=rows.device)
        chunks = _chunks(len(rows), len(weight), rows.device)
        # One buffer for all chunks.
        logits = rows.new_empty((chunks[0].stop if chunks else 0, len(weight)), dtype=dtype)
        with without_autocast(rows):
            for chunk in chunks:
                states = rows[chunk].to(dtype)
                product = logits[: len(states)]
                torch.mm(states, product_weight.t(), out=product)
                total += _loss_and_gradients(product, labels[chunk], logit_map)
                if rows_grad is not None:
                    rows_grad[chunk] = product @ product_weight
                if weight_grad is not None:
                    _add_product(weight_grad, product.t(), states)
        if (
            weight_grad is not None and weight.dtype != torch.float16
        ):  # whose range the undivided sum can exceed
            weight_grad = weight_grad.to(weight.dtype)
        ctx.save_for_backward(rows_grad, weight_grad)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        rows_grad, weight_grad = ctx.saved_tensors
        return (
            None if rows_grad is None else rows_grad * gradient.to(rows_grad.dtype),
            None if weight_grad is None else (weight_grad * gradient.to(weight_grad.dtype)).to(ctx.dtype),
            None,
            None,
        )


def _loss_and_gradients(outputs: Tensor, labels: Tensor, logit_map: LogitMap) -> Tensor:
    """Return the summed loss of a head's outputs (T, V) in float32; overwrite them with its gradient.

    On a CPU, rows are processed in groups that fit into its cache.
    """
    size = max(1, CACHE_BYTES // (4 * outputs.shape[1])) if outputs.device.type == "cpu" else len(outputs)
    total = outputs.new_zeros((), dtype=torch.float32)
    groups = zip(torch.split(outputs, size), torch.split(labels, size), strict=True)
    for group, group_labels in groups:
        exact = logit_map(group).float()
        slope = None if logit_map.is_identity else logit_map.slope(exact)
        total += _losses_and_gradient(exact, group_labels).sum()
        if slope is not None:
            exact.mul_(slope)
        if exact is not group:
            group.copy_(exact)
    return total


def _losses_and_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the losses (T,) of float32 logits (T, V); overwrite the logits with the gradient."""
    at_label = logits.gather(1, labels[:, None])  # (T, 1)
    highest = logits.amax(1, keepdim=True)
    torch.softmax(logits, 1, out=logits)
    normaliser = (
        highest - logits.amax(1, keepdim=True).log()
    )  # finite, as the largest probability is at least 1 / V
    logits.scatter_add_(1, labels[:, None], torch.full_like(at_label, -1.0))
    return (normaliser - at_label).squeeze(1)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _total_by_module(head: nn.Module, rows: Tensor, labels: Tensor, logit_map: LogitMap) -> Tensor:
    """Return the summed loss of rows (T, H) under any head; the backward pass calls `head` again."""

    def chunk_loss(rows: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logit_map(head(rows)).float(), labels, reduction="sum")

    total = rows.sum() * 0.0  # has a gradient even without chunks
    for chunk in _chunks(len(rows), int(head.out_features), rows.device):  # type: ignore[arg-type]
        total = total + checkpoint(chunk_loss, rows[chunk], labels[chunk], use_reentrant=False)
    return total


def _chunks(rows: int, vocabulary: int, device: torch.device) -> list[slice]:
    size = positions_per_chunk(vocabulary, on_cpu=device.type == "cpu")
    return [slice(start, start + size) for start in range(0, rows, size)]


def positions_per_chunk(vocabulary: int, *, on_cpu: bool) -> int:
    """Return for how many positions at a time logits of `vocabulary` tokens are computed."""
    return max(1, (CHUNK_BYTES if on_cpu else GPU_CHUNK_BYTES) // (4 * vocabulary))


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    problem_type: str | None = None,
    num_items_in_batch: Tensor | int | None = None,
) -> Tensor:
    """Compute a classifier's mean loss as a float32 scalar, with the formulas that transformers has.

    Args:
        logits: (B, N).
        labels: (B,) class indices; (B, N) memberships (0 or 1) or regression targets; (B,) targets if N is 1.
        problem_type: transformers' name of the problem. None: regression if N is 1, else single-label for
            integer labels of 32 or 64 bits, and multi-label for others.
        num_items_in_batch: Divisor of the sum; None: the number of labels. With a single label per row,
            labels of -100 don't count.
    """
    logits, labels = logits.float(), labels.to(logits.device)
    if problem_type is None:
        is_single_label = labels.dtype in (torch.int32, torch.int64)
        problem_type = "single_label_classification" if is_single_label else "multi_label_classification"
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
