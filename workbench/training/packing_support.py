"""Whether a model keeps texts apart that lie one behind the other in a row."""

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

NUM_TOKENS = 8
"""Of each of the two texts that are tried."""


def keeps_texts_apart(model: PreTrainedModel | PeftModel) -> bool:
    """Whether position ids that begin anew hide the text before from the one behind it.

    Tried on the model itself: the second of two texts must get the logits that it gets alone, and not those
    that it gets as the first one's continuation. Models whose attention knows no positions fail;
    quantization noise, which is small beside the influence of a text, doesn't matter.
    """
    generator = torch.Generator().manual_seed(0)
    vocabulary = int(model.config.get_text_config().vocab_size)
    both = torch.randint(vocabulary, (1, 2 * NUM_TOKENS), generator=generator).to(model.device)
    second = both[:, NUM_TOKENS:]
    restarting = torch.arange(NUM_TOKENS, device=model.device).repeat(2)[None]
    alone = second_logits(model, second, None)
    apart = second_logits(model, both, restarting)
    running = second_logits(model, both, None)
    return bool((apart - alone).abs().max() <= 0.1 * (running - alone).abs().max())


def second_logits(model: PreTrainedModel | PeftModel, ids: Tensor, position_ids: Tensor | None) -> Tensor:
    """(1, NUM_TOKENS, V): of the last tokens."""
    places = {} if position_ids is None else {"position_ids": position_ids}
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False, **places).logits
    return logits[:, -NUM_TOKENS:].float()
