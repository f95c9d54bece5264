"""Computes a causal model's loss without storing its logits, if a trial finds that exact.

The model's own code runs as it is, except that its head is called without positions, so that its logits are
empty; the loss follows from the hidden states that the head would have got. That is the model's loss only if
its logits are `head(hidden)`, or a known element-wise function of it: a scale or a soft cap.

Shapes: B batch, S tokens, H hidden size, V vocabulary.
"""

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.config.names import IGNORED
from workbench.contexts import forked_random_state
from workbench.errors import first_line
from workbench.model_trials.head_inputs import head_inputs
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.ops.fused import is_plain, plain_layers
from workbench.models.ops.lazy_logits import LazyLogitsOutput, logits_maker
from workbench.models.ops.logit_map import LogitMap
from workbench.models.ops.loss import causal_lm_loss, is_plain_linear
from workbench.models.trials.logit_map import find_logit_map
from workbench.models.trials.trial_text import trial_ids

FLOAT32_LOSS, HALF_LOSS = 1e-5, 1e-3
"""Largest difference of the two losses, relative to the loss: in float32, and with 16-bit logits."""


def use_chunked_loss(model: PreTrainedModel) -> str:
    """Replace `model.forward` so that it computes the loss in chunks, if a trial finds this loss equal.

    Only calls in train mode with `labels` change: they return an output whose logits are computed when they
    are read.

    Args:
        model: A causal language model in eval mode; it is changed in place.

    Returns:
        Why the model keeps its own loss, as a phrase; empty if it has the chunked one now.
    """
    with plain_layers():
        logit_map, reason = _trial(model)
    if logit_map is not None:
        model.forward = MethodType(_with_chunked_loss(model.forward, logit_map), model)
    return reason


def _with_chunked_loss(original: Callable[..., Any], logit_map: LogitMap) -> Callable[..., Any]:
    """Return a replacement of a model's bound method `forward`, with the same signature."""

    @functools.wraps(original.__func__)  # type: ignore[attr-defined]
    def forward(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        is_loss_wanted = kwargs.get("labels") is not None and kwargs.get("return_dict") is not False
        is_own = is_plain() or not self.training or adds_router_loss(self, kwargs)
        if is_own or not is_loss_wanted:
            return original.__func__(self, *args, **kwargs)  # type: ignore[attr-defined]
        labels, count = kwargs.pop("labels"), kwargs.pop("num_items_in_batch", None)
        shift_labels = kwargs.pop("shift_labels", None)
        if kwargs.get("use_cache") is None:
            kwargs["use_cache"] = False
        head = cast(nn.Module, self.get_output_embeddings())  # type: ignore[no-untyped-call]
        with head_inputs(head) as hidden:
            outputs = original.__func__(self, *args, **kwargs)  # type: ignore[attr-defined]
        loss = causal_lm_loss(head, hidden[-1], labels, count, shift_labels, logit_map)
        if is_plain_linear(head):
            make_logits = logits_maker(cast(nn.Linear, head), hidden[-1], logit_map)
            loss.make_logits = make_logits  # type: ignore[attr-defined]
        names = ("past_key_values", "hidden_states", "attentions")
        return LazyLogitsOutput(loss, **{name: outputs.get(name) for name in names})

    return forward


def adds_router_loss(model: PreTrainedModel, keywords: dict[str, Any]) -> bool:
    """Return whether a call with these keywords adds a term for the router of the experts to its loss."""
    by_default = getattr(model.config.get_text_config(), "output_router_logits", False)
    asked = keywords.get("output_router_logits")
    return bool(by_default if asked is None else asked)


def _trial(model: PreTrainedModel) -> tuple[LogitMap | None, str]:
    """Return the function from the head's output to the logits, or why the model keeps its own loss."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Module):
        return None, "it has no language model head of its own"
    if adds_router_loss(model, {}):
        return None, "its loss has a term for the router of its experts"
    try:
        with torch.no_grad(), forked_random_state():
            torch.manual_seed(0)
            logit_map = find_logit_map(model, head)
            if logit_map is None:
                return None, "its logits are not its head's output, nor that times a scale or with a soft cap"
            reason = _difference_of_losses(model, head, logit_map)
    except BROKEN as error:
        return None, f"the trial ended with {type(error).__name__}: {first_line(error):.80}"
    return None if reason else logit_map, reason


def _difference_of_losses(model: PreTrainedModel, head: nn.Module, logit_map: LogitMap) -> str:
    """Return in what the model's loss differs from that of its logits; empty if in nothing."""
    ids = trial_ids(model)
    labels = trial_labels(ids)
    own: Tensor = model(input_ids=ids, labels=labels, use_cache=False).loss
    with head_inputs(head) as hidden:
        model(input_ids=ids, use_cache=False)
    ours = causal_lm_loss(head, hidden[-1], labels, logit_map=logit_map)
    return "" if is_same_loss(own, ours, hidden[-1].dtype) else "its loss has a term of its own"


def trial_labels(ids: Tensor) -> Tensor:
    """Return labels for a trial's tokens, of which a third have none."""
    labels = ids.clone()
    labels[:, ::3] = IGNORED
    return labels


def is_same_loss(own: Tensor, ours: Tensor, dtype: torch.dtype) -> bool:
    """Return whether losses are equal but for rounding; `dtype` is that of hidden states or logits."""
    rounding = FLOAT32_LOSS if own.dtype == dtype == torch.float32 else HALF_LOSS
    return bool((own.float() - ours).abs() <= rounding * own.abs())
