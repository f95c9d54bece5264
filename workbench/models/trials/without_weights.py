"""Finds out without weights which faster ways a training will take, for a forecast of its memory.

The trial of the loss runs the code of the language model's class, with numbers in place of the outputs of its
layers and of its head: it takes no longer for a large model.

Shapes: S tokens, H hidden size, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.ops.fused import plain_layers
from workbench.models.ops.logit_map import LogitMap
from workbench.models.ops.loss import loss_of_logits
from workbench.models.trials.chunked_loss import adds_router_loss, is_same_loss, trial_labels
from workbench.models.trials.fused_norms import use_fused_norms
from workbench.models.trials.logit_map import find_logit_map, probe
from workbench.models.trials.trial_text import NUM_TOKENS, trial_ids


def will_chunk_loss(model: PreTrainedModel) -> bool:
    """Return whether a trial of the model's code finds its loss to be that of its head's output.

    `use_chunked_loss` finds the same on the loaded model, unless its weights give no finite loss.

    Args:
        model: A causal language model, which may be on the meta device.
    """
    head, layers = model.get_output_embeddings(), model.base_model  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Module) or layers is model or adds_router_loss(model, {}):
        return False
    try:
        with plain_layers(), torch.no_grad(), _without_weights(model, layers, head):
            logit_map = find_logit_map(model, head)
            return logit_map is not None and _is_loss_of_logits(model, head, logit_map)
    except BROKEN:
        return False


def has_known_layers(model: PreTrainedModel) -> bool:
    """Return whether all weights are in linear layers and norms of known formulas, and attention isn't eager.

    Only then is known what a training stores of the layers.

    Args:
        model: A causal language model, which may be on the meta device; its norms are changed in place.
    """
    use_fused_norms(model)
    owners = {
        module for module in model.modules() if next(module.parameters(recurse=False), None) is not None
    }
    known = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm)
    is_eager = model.config.get_text_config()._attn_implementation == "eager"
    return not is_eager and all(isinstance(owner, known) or "forward" in vars(owner) for owner in owners)


def _is_loss_of_logits(model: Any, head: Any, logit_map: LogitMap) -> bool:
    """Return whether the model's loss is that of the logits, which are `logit_map` of the head's output."""
    labels = trial_labels(trial_ids(model, "cpu"))
    own = model(input_ids=trial_ids(model), labels=labels, use_cache=False).loss
    outputs = head(torch.zeros(1, NUM_TOKENS, 1))
    return is_same_loss(own, loss_of_logits(logit_map(outputs), labels), outputs.dtype)


@contextmanager
def _without_weights(model: PreTrainedModel, layers: nn.Module, head: nn.Module) -> Iterator[None]:
    """Within the context, let the layers return zeros, and the head numbers (1, S, V), on the CPU."""
    size = int(model.config.get_text_config().hidden_size)
    vocabulary = int(model.config.get_text_config().vocab_size)

    def hidden_states(*_args: Any, **_kwargs: Any) -> _Outputs:
        return _Outputs(torch.zeros(1, NUM_TOKENS, size, dtype=model.dtype))

    def outputs(hidden: Tensor) -> Tensor:
        return probe(torch.Size((*hidden.shape[:-1], vocabulary))).to(model.dtype)

    layers.forward, head.forward = hidden_states, outputs
    try:
        yield
    finally:
        del layers.forward, head.forward


class _Outputs:
    """Outputs of a model's layers: hidden states, and None under all other names."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __getitem__(self, key: Any) -> Any:
        """Return the hidden states, the first entry; there are no others."""
        return (self.last_hidden_state,)[key]
