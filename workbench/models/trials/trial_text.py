"""The text of the trials."""

from typing import Any

import torch
from torch import Tensor

NUM_TOKENS = 24


def trial_ids(model: Any) -> Tensor:
    """Return the trial's token ids (1, NUM_TOKENS) for a model, the same at every call."""
    size = int(model.config.get_text_config().vocab_size)
    ids = torch.randint(size, (1, NUM_TOKENS), generator=torch.Generator().manual_seed(0))
    return ids.to(model.device)
