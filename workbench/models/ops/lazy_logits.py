"""Training output of a causal language model: the logits are computed only if they are read."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from workbench.models.dtypes import is_autocasting, product_dtype, without_autocast
from workbench.models.ops.logit_map import IDENTITY, LogitMap


class LazyLogitsOutput(CausalLMOutputWithPast):
    """Output of a model with a loss; its logits are computed once, when they are read by name or index.

    Iteration skips logits that aren't computed yet. The function that computes them is the attribute
    `make_logits` of the loss, so that copies of the output with the same loss, as in mixed precision and
    parallel training, have logits, too.
    """

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; reading `logits` first computes them, and inserts them after the loss."""
        value = super().__getattribute__(name)
        if name != "logits" or value is not None:
            return value
        make_logits = getattr(self.loss, "make_logits", None)
        if make_logits is not None:
            self["logits"] = make_logits()
            for later in [key for key in self if key not in ("loss", "logits")]:
                self.move_to_end(later)
        return super().__getattribute__(name)

    def __getitem__(self, key: Any) -> Any:
        """Return the output's entry of this name or index; reading any but the loss computes the logits."""
        if key in (0, "loss") or self.logits is None:
            return self.loss
        return super().__getitem__(key)  # type: ignore[no-untyped-call]

    def __contains__(self, key: object) -> bool:
        """Return whether there is an entry of this name; asking for `logits` computes them."""
        return super().__contains__(key) or (key == "logits" and self.logits is not None)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the entry of this name, or `default` if there is none."""
        return super().get(key, default) if key in self else default

    def to_tuple(self) -> tuple[Any, ...]:
        """Return all entries in order, with the logits; () if no function can compute them."""
        return () if self.logits is None else super().to_tuple()


def logits_maker(head: nn.Linear, hidden: Tensor, logit_map: LogitMap = IDENTITY) -> Callable[[], Tensor]:
    """Return a function that computes the logits (B, S, V) of `hidden` (B, S, H) when it is called.

    It uses the settings of autocast at the time of `logits_maker`. It raises RuntimeError if the head's
    weight has changed since then.
    """
    version, dtype, is_enabled = head.weight._version, product_dtype(hidden), is_autocasting(hidden)

    def make() -> Tensor:
        if head.weight._version != version:
            raise RuntimeError(
                "logits: the head has changed since the forward pass (read them before the optimizer step)"
            )
        with torch.autocast(hidden.device.type, dtype) if is_enabled else without_autocast(hidden):
            return logit_map(head(hidden))

    return make
