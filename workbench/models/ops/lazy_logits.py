"""The output of a causal language model in training: the logits of a batch are made only if they are read."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast


class LazyLogitsOutput(CausalLMOutputWithPast):
    """The usual output of training, whose logits are made when they are asked for, by name or place.

    Going through the entries leaves them out. What makes them is kept with the loss, so that copies of the
    output with the same loss, as mixed precision and parallel training make them, have them too.
    """

    def __getattribute__(self, name: str) -> Any:
        """An attribute; the logits take their usual place after the loss."""
        found = super().__getattribute__(name)
        if name != "logits" or found is not None:
            return found
        make = getattr(self.loss, "make_logits", None)
        if make is not None:
            self["logits"] = make()
            for later in [key for key in self if key not in ("loss", "logits")]:
                self.move_to_end(later)
        return super().__getattribute__(name)

    def __getitem__(self, key: Any) -> Any:
        """An entry by name or place; only the loss is had without the logits."""
        if key in (0, "loss") or self.logits is None:
            return self.loss
        return super().__getitem__(key)  # type: ignore[no-untyped-call]

    def __contains__(self, key: object) -> bool:
        """Whether there is such an entry."""
        return super().__contains__(key) or (key == "logits" and self.logits is not None)

    def get(self, key: str, default: Any = None) -> Any:
        """An entry by name."""
        return super().get(key, default) if key in self else default

    def to_tuple(self) -> tuple[Any, ...]:
        """All entries, in order."""
        return () if self.logits is None else super().to_tuple()


def logits_maker(head: nn.Linear, hidden: Tensor) -> Callable[[], Tensor]:
    """Makes the logits of `hidden` (B, S, H), in the precision of now, as long as the head is that of now."""
    device, version = hidden.device.type, head.weight._version
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)

    def make() -> Tensor:
        if head.weight._version != version:
            raise RuntimeError("logits: the head has been trained on since (read them before the next step)")
        with torch.autocast(device, dtype, enabled):
            logits: Tensor = head(hidden)
        return logits

    return make
