"""Hides warnings of peft that a user of this project can do nothing about."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from peft.utils.warning import PeftWarning


@contextmanager
def without_peft_warnings() -> Iterator[None]:
    """Hide warnings of peft 0.21 that users of this project can do nothing about."""
    with warnings.catch_warnings():
        # peft reads an attribute that transformers 5.23 deprecates.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # peft's conversion to plain LoRA doesn't support it; ours does.
        warnings.filterwarnings("ignore", "Using Rank-Stabilized LoRA with rank_pattern", UserWarning)
        # A merge says so too, and scoring needs no bias in the base.
        warnings.filterwarnings("ignore", "`lora_bias=True` was passed but the targeted layer", PeftWarning)
        # The bias of such an adapter has one dimension; AdaLoRA may leave a layer without a rank.
        warnings.filterwarnings("ignore", "Adapter 'default': .* have invalid shape", PeftWarning)
        # A merge unties the layers of such an adapter.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied", UserWarning)
        # peft detects the transposed weights of GPT-2's layers and corrects the setting.
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False but", UserWarning)
        # LN tuning's own layers, whose sizes nothing uses.
        warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
        # Such a layer is refused afterwards, by its name.
        warnings.filterwarnings("ignore", "Detected that the base layer has no bias term", UserWarning)
        # AdaLoRA's ranks are read later, by the names of its tensors.
        warnings.filterwarnings("ignore", r"The following rank_pattern keys .*\.lora_E'", RuntimeWarning)
        yield
