"""The text of the trials."""

from typing import Any

import torch
from torch import Tensor

NUM_TOKENS = 24


def trial_ids(model: Any, device: torch.device | str | None = None) -> Tensor:
    """Return the trial's token ids (1, NUM_TOKENS), the same at every call.

    Args:
        model: The model.
        device: Where the ids are; default: where the model is.
    """
    size = int(model.config.get_text_config().vocab_size)
    ids = torch.randint(size, (1, NUM_TOKENS), generator=torch.Generator().manual_seed(0))
    return ids.to(model.device if device is None else device)
