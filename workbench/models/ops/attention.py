"""Chooses attention kernels by name, from a table of functions with one signature.

`eager` is plain PyTorch and the only kernel that returns its probabilities; `sdpa` is PyTorch's fused
attention; `xformers` uses CUDA kernels of xformers, and `sdpa` for calls that they don't support. Other names
are transformers' own kernels.

Shapes: B batch, S new tokens, K keys (cached and new), H hidden size.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.masking_utils import (
    AttentionMaskInterface,
    create_causal_mask,
    create_sliding_window_causal_mask,
)
from transformers.modeling_utils import AttentionInterface

from workbench.log_once import log_once
from workbench.models.ops import varlen_attention
from workbench.models.ops.fused import is_plain
from workbench.models.ops.packed_sequences import Branches, PackedTexts, packed_texts
from workbench.models.ops.torch_attention import eager, sdpa
from workbench.models.ops.xformers_attention import xformers, xformers_mask
from workbench.models.ops.xformers_kernels import missing_reason


def causal_masks(
    config: PreTrainedConfig,
    inputs_embeds: Tensor,
    attention_mask: Tensor | Branches | dict[int | None, Any] | None,
    position_ids: Tensor | None,
    past_key_values: Cache | None,
    windows: Iterable[int | None],
    text_lengths: Sequence[int] | None = None,
) -> tuple[dict[int | None, Any], dict[str, Any]]:
    """Return window -> mask in the attention kernel's format, and further keyword arguments for the kernel.

    A mask of None: the kernel needs none, since it applies causal order and its `sliding_window` itself.
    Packed texts are separated by the keyword arguments, with masks of None, for the kernels in PACKING unless
    `is_plain()`. For other kernels the masks separate them, and the keyword arguments are empty, as for rows
    of one text.

    Args:
        config: Its `_attn_implementation` decides the format.
        inputs_embeds: (B, S, H).
        attention_mask: (B, K), 0 for padding; or a mask of 4 dimensions, or a dictionary window -> mask; the
            last two are returned unchanged. Or what `mask_of_branches` returns.
        position_ids: (B or 1, S) as the caller of the model gave them, or None; without mask and cache they
            separate packed texts.
        past_key_values: Cache of earlier keys; None: there are none.
        windows: Windows of the layers, each `config.sliding_window` or None. Each has its own mask.
        text_lengths: Lengths of the texts that `position_ids` separate, in order; None: they are read from
            the device.
    """
    if isinstance(attention_mask, dict):
        return attention_mask, {}
    if isinstance(attention_mask, Branches):
        return dict.fromkeys(windows), {"branches": attention_mask}
    name = config._attn_implementation
    may_pack = attention_mask is None and past_key_values is None and not is_plain()
    if position_ids is not None and may_pack and name in PACKING:
        packed = packed_texts(position_ids, len(inputs_embeds), text_lengths)
        if packed is not None:
            return dict.fromkeys(windows), PACKING[name](packed)
        position_ids = None
    arguments: dict[str, Any] = {
        "config": config,
        "inputs_embeds": inputs_embeds,
        "attention_mask": attention_mask,
        "past_key_values": past_key_values,
        "position_ids": position_ids,
    }
    masks: dict[int | None, Any] = {}
    for window in windows:
        if window is None:
            masks[window] = create_causal_mask(**arguments)
        elif not (may_pack and name in COUNT_WINDOWS):
            masks[window] = create_sliding_window_causal_mask(**arguments)
        else:
            masks[window] = None
    return masks, {}


def mask_of_branches(model: Any, lengths: list[int], keys: list[list[range]]) -> Branches | None:
    """Return what Open-Llama's forward takes as `attention_mask` of a row that is a tree's chains.

    None: the device has no kernel for it, or a mask takes less time. The chains are those of `Branches`, none
    with more keys than a window.
    """
    config = model.config
    is_taken = config._attn_implementation in COUNT_WINDOWS and not is_plain()
    if not is_taken or not varlen_attention.supports(model.device, model.dtype, config.head_width):
        return None
    branches = Branches(lengths, keys, model.device)
    heads = config.num_attention_heads
    is_cheaper = branches.is_cheaper(keys[-1][-1].stop, heads // (config.num_key_value_heads or heads))
    return branches if is_cheaper else None


def default_attention(memory_efficient: bool) -> str:
    """Return "xformers" if `memory_efficient` and if xformers has kernels for a GPU here, else "sdpa".

    The log says once why xformers is not used on a GPU.
    """
    if not (memory_efficient and torch.cuda.is_available()):
        return "sdpa"
    reason = missing_reason(torch.device("cuda"))
    if reason is None:
        return "xformers"
    log_once(f"attention: sdpa ({reason})")
    return "sdpa"


# Kernels that support packed texts without a mask -> function that returns their arguments.
PACKING: dict[str, Callable[[PackedTexts], dict[str, Any]]] = {
    "sdpa": lambda packed: {"packed": packed},
    "xformers": lambda packed: {"packed": packed},
    "flash_attention_2": PackedTexts.boundaries,
    "flash_attention_3": PackedTexts.boundaries,
}

COUNT_WINDOWS = ("sdpa", "xformers")
"""Kernels that count windows themselves, where there is neither padding nor a cache."""

# transformers' global tables get `xformers`; this project's `eager` and `sdpa` are for Open-Llama only.
AttentionInterface.register("xformers", xformers)
AttentionMaskInterface.register("xformers", xformers_mask)
ATTENTION_FUNCTIONS = AttentionInterface()  # type: ignore[no-untyped-call]
ATTENTION_FUNCTIONS["eager"] = eager
ATTENTION_FUNCTIONS["sdpa"] = sdpa
