"""Computes cosines and sines of the rotary position embedding.

Shapes: B batch, S tokens, D head width.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from workbench.model_trials.lengths import LENGTH_DEPENDENT_ROPES
from workbench.models.dtypes import product_dtype, without_autocast
from workbench.models.open_llama.configuration_open_llama import OpenLlamaConfig
from workbench.models.ops.packed_sequences import row_lengths, text_lengths


class OpenLlamaRotaryEmbedding(nn.Module):
    """Cosines and sines of the rotary position embedding, for every rope type of transformers.

    Calls don't change the state: the result depends on the arguments only. The frequencies stay float32 when
    the model is cast, because bfloat16 represents positions exactly only up to 256.
    """

    inv_freq: Tensor
    long_inv_freq: Tensor

    def __init__(self, config: OpenLlamaConfig) -> None:
        """Compute the frequencies from the configuration; checkpoints don't contain them."""
        super().__init__()
        self.config = config
        self.rope_type: str = config.rope["rope_type"]
        self.depends_on_length = self.rope_type in LENGTH_DEPENDENT_ROPES
        self.attention_scaling = 1.0
        for name, value in self.frequencies(device=None).items():
            self.register_buffer(name, value, persistent=False)

    def frequencies(self, device: torch.device | None) -> dict[str, Tensor]:
        """Return name of a buffer -> frequencies (D / 2,) for it, in radians per position.

        longrope has a second buffer, for texts beyond the original length. Also sets `attention_scaling`.
        """
        rope = self.config.rope
        if self.rope_type == "default":
            return {"inv_freq": _inverse_frequencies(rope["rope_theta"], self.config.head_width, device)}
        compute = ROPE_INIT_FUNCTIONS[self.rope_type]
        short, self.attention_scaling = compute(self.config, device)
        if self.rope_type != "longrope":
            return {"inv_freq": short}
        long_length = rope["original_max_position_embeddings"] + 1
        return {"inv_freq": short, "long_inv_freq": compute(self.config, device, seq_len=long_length)[0]}

    def reset(self) -> None:
        """Compute the frequencies again, and write them into the buffers in place."""
        for name, value in self.frequencies(self.inv_freq.device).items():
            init.copy_(getattr(self, name), value)

    def _apply(self, fn: Any, recurse: bool = True) -> "OpenLlamaRotaryEmbedding":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.inv_freq.dtype != torch.float32:
            for name, value in self.frequencies(self.inv_freq.device).items():
                self.register_buffer(name, value, persistent=False)
        return self

    def lengths(
        self, position_ids: Tensor | None, attention_mask: object, past_key_values: object
    ) -> Tensor | None:
        """Return the length of each token's text in tokens, (B, S or 1), for `forward`.

        None: frequencies don't depend on it, or each row is one text without padding. The arguments are those
        of the model.
        """
        if not self.depends_on_length:
            return None
        is_mask = isinstance(attention_mask, Tensor) and attention_mask.dim() == 2
        mask = cast(Tensor, attention_mask) if is_mask else None
        if position_ids is None:
            return None if mask is None else mask.long().sum(-1, keepdim=True)
        if attention_mask is None and past_key_values is None:
            return text_lengths(position_ids)
        return row_lengths(position_ids, mask)

    @torch.no_grad()
    def forward(
        self, hidden: Tensor, position_ids: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute cosine and signed sine (B or 1, S, 1, D) of `position_ids` (B or 1, S), for `rotate`.

        Args:
            hidden: Gives only the device and the dtype.
            position_ids: (B or 1, S).
            lengths: Length of each token's text in tokens, (B or 1, S or 1), for types whose frequencies
                depend on it; default: each row's largest position plus one.
        """
        dtype = product_dtype(hidden)
        with without_autocast(hidden):
            lengths = position_ids.amax(-1, keepdim=True) + 1 if lengths is None else lengths
            angles = position_ids[..., None].float() * self._frequencies_of(lengths[..., None])
            angles = angles.unsqueeze(2)
            cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)

    def _frequencies_of(self, length: Tensor) -> Tensor:
        """Return frequencies (D / 2,), or (B, S, D / 2) for types that depend on the `length` (B, S, 1)."""
        if not self.depends_on_length:
            return self.inv_freq
        rope = self.config.rope
        if self.rope_type == "longrope":
            return torch.where(
                length > rope["original_max_position_embeddings"], self.long_inv_freq, self.inv_freq
            )
        # NTK-aware scaling of the base with the length (https://www.reddit.com/r/LocalLLaMA/comments/14mrgpr);
        # texts up to the training length have the unscaled base.
        trained_length, factor, width = (
            self.config.max_position_embeddings,
            rope["factor"],
            self.config.head_width,
        )
        scaled_base = rope["rope_theta"] * (factor * length / trained_length - (factor - 1)) ** (
            width / (width - 2)
        )
        scaled = _inverse_frequencies(scaled_base.float(), width, length.device)
        return torch.where(length > trained_length, scaled, self.inv_freq)


def _inverse_frequencies(base: float | Tensor, width: int, device: torch.device | None) -> Tensor:
    """Compute base^(-2j / D) for j in 0 .. D / 2 - 1."""
    exponents = torch.arange(0, width, 2, device=device, dtype=torch.float32) / width
    return 1.0 / base**exponents
