"""Detects whether the texts that are packed into one row are kept from attending to each other by a model."""

from contextlib import AbstractContextManager, nullcontext

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.model_trials.head_inputs import head_inputs
from workbench.model_trials.lengths import edges
from workbench.model_trials.outcome import ERRORS, amplified, failure, scales

LENGTHS = (8, 24)
"""Lengths of the trial's texts, in tokens; those around windows and rope thresholds are tried, too."""
NEIGHBOUR = 5
"""Length of the texts before and after, in tokens."""
EXACT = {1.0: 1e-4, 30.0: 1e-3}
"""Scale of the hidden states -> largest difference from a text alone in float32, relative to the influence of
another text."""
ROUNDED = {1.0: 0.1, 30.0: 0.3}
"""The same with weights or activations in 16 bits or fewer."""

STATE = "a recurrent state passes from text to text"
"""What keeps a model with a recurrent state from texts in one row."""


def passes_state(model: PreTrainedModel | PeftModel) -> bool:
    """Return whether a model, which may be on the meta device, has a recurrent state, as Mamba has."""
    return bool(getattr(model, "_is_stateful", False))


def packing_fault(model: PreTrainedModel | PeftModel, longest: int) -> str:
    """Say how texts in one row, whose position ids restart at 0, differ from each text alone.

    Runs the model, which must be in eval mode, on three texts in one row: each must get the hidden states
    that it gets alone, not those that it gets as the continuation of the others. A recurrent state (Mamba,
    Falcon-H1, Qwen3.5) passes between texts, without a trial.

    Args:
        model: A causal language model.
        longest: Length of the longest text of the training, in tokens. Windows and rope thresholds beyond it
            aren't tried.

    Returns:
        A phrase; empty if the texts are kept apart.
    """
    if passes_state(model):
        return STATE
    is_exact = model.dtype == torch.float32 and not getattr(model, "is_quantized", False)
    tolerances = EXACT if is_exact else ROUNDED
    try:
        for length in sorted({*LENGTHS, *(edge for edge in edges(model.config) if edge <= longest)}):
            for scale in scales(model.dtype):
                with torch.no_grad(), amplified(model, scale):
                    error, influence = _error(model, length)
                if not error <= tolerances[scale] * influence:
                    return (
                        f"at {length} tokens, {error / influence:.1%} of texts' influence on others is left"
                    )
    except ERRORS as error:
        return failure(error)
    return ""


def _error(model: PreTrainedModel | PeftModel, length: int) -> tuple[float, float]:
    """Return the largest difference of texts in one row from texts alone, and that of a continuous text.

    The second is the influence of the texts on each other. One text has `length` tokens, its neighbours have
    NEIGHBOUR.
    """
    lengths = (NEIGHBOUR, length, NEIGHBOUR)
    vocab_size = int(model.config.get_text_config().vocab_size)
    generator = torch.Generator().manual_seed(0)
    row = torch.randint(vocab_size, (1, sum(lengths)), generator=generator).to(model.device)
    alone = torch.cat([last_hidden(model, text, None) for text in torch.split(row, list(lengths), 1)], 1)
    positions = torch.cat([torch.arange(count, device=model.device) for count in lengths])[None]
    packed = last_hidden(model, row, positions)
    continued = last_hidden(model, row, None)
    return float((packed - alone).abs().max()), float((continued - alone).abs().max())


def last_hidden(model: PreTrainedModel | PeftModel, ids: Tensor, position_ids: Tensor | None) -> Tensor:
    """Return the inputs of the model's head (1, tokens, width) in float32; of a model without a head, logits.

    `position_ids` has the shape of `ids`, (1, tokens); None: the model numbers the tokens itself.
    """
    head = model.get_output_embeddings()
    positions = {} if position_ids is None else {"position_ids": position_ids}
    collecting: AbstractContextManager[list[Tensor]] = nullcontext([])
    if isinstance(head, nn.Module):
        collecting = head_inputs(head)
    with collecting as hidden:
        logits: Tensor = model(input_ids=ids, use_cache=False, **positions).logits
    return (hidden[0] if hidden else logits).float()
