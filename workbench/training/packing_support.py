"""Detects whether the texts that are packed into one row are kept from attending to each other by a model."""

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

NUM_TOKENS = 8
"""Number of tokens of each of the two texts in the test."""
EXACT, ROUNDED = 1e-3, 0.1
"""Largest difference from the text alone, relative to the influence of another text: in float32, and with
quantized weights or in 16 bits."""


def keeps_texts_apart(model: PreTrainedModel | PeftModel) -> bool:
    """Return whether texts in one row attend only to themselves if their position ids restart at 0.

    Runs the model, which must be in evaluation mode: the second of two packed texts must get the logits that
    it gets alone, not those that it gets as the continuation of the first. The result is false for models
    whose attention ignores positions, and without a test for models with a recurrent state (Mamba,
    Falcon-H1, Qwen3.5), which passes between texts. The tolerance allows for quantization noise, which is
    small compared with the influence of another text.
    """
    if getattr(model, "_is_stateful", False):
        return False
    generator = torch.Generator().manual_seed(0)
    vocab_size = int(model.config.get_text_config().vocab_size)
    both = torch.randint(vocab_size, (1, 2 * NUM_TOKENS), generator=generator).to(model.device)
    second = both[:, NUM_TOKENS:]
    restarting = torch.arange(NUM_TOKENS, device=model.device).repeat(2)[None]
    alone = last_logits(model, second, None)
    packed = last_logits(model, both, restarting)
    continued = last_logits(model, both, None)
    is_exact = model.dtype == torch.float32 and not getattr(model, "is_quantized", False)
    tolerance = EXACT if is_exact else ROUNDED
    return bool((packed - alone).abs().max() <= tolerance * (continued - alone).abs().max())


def last_logits(model: PreTrainedModel | PeftModel, ids: Tensor, position_ids: Tensor | None) -> Tensor:
    """Return the float32 logits of the last NUM_TOKENS tokens, of shape (1, NUM_TOKENS, vocabulary size).

    `position_ids` has the shape of `ids`, (1, tokens); None: the model numbers the tokens itself.
    """
    positions = {} if position_ids is None else {"position_ids": position_ids}
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False, **positions).logits
    return logits[:, -NUM_TOKENS:].float()
