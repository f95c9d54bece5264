"""Attention, chosen by name from a table of functions with one signature.

`eager` is plain PyTorch and the only one that returns its probabilities; `sdpa` is PyTorch's fused attention;
`xformers` runs where a CUDA kernel takes the call and is `sdpa` elsewhere. Other names are transformers' own.

Shapes: B batch, S new tokens, K keys (cached and new), A query heads, G key/value heads, D head width.
"""

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.masking_utils import AttentionMaskInterface, create_causal_mask, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from workbench.models.ops import cpu_attention
from workbench.models.ops.fused import is_plain
from workbench.models.ops.packed_sequences import PackedTexts, packed_texts

log = logging.getLogger(__name__)


def causal_mask(
    config: PreTrainedConfig,
    inputs_embeds: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    past_key_values: Cache | None,
) -> tuple[Any, dict[str, Any]]:
    """Who sees whom: a mask in the form the attention wants, or what tells it the texts packed in a row.

    Args:
        config: Its `_attn_implementation` decides the form.
        inputs_embeds: (B, S, H).
        attention_mask: (B, K), 1 for real tokens; or one of 4 dimensions, which is passed on as it is.
        position_ids: As the caller gave them; without a mask and a cache they tell packed texts apart.
        past_key_values: Earlier keys.
    """
    name = config._attn_implementation
    may_pack = attention_mask is None and past_key_values is None and not is_plain()
    if position_ids is not None and may_pack and name in PACKING:
        packed = packed_texts(position_ids, len(inputs_embeds))
        if packed is not None:
            return None, PACKING[name](packed)
        position_ids = None
    mask = create_causal_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        past_key_values=past_key_values,
        position_ids=position_ids,
    )
    return mask, {}


def eager(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention step by step.

    Args:
        module: The attention layer; asked for nothing but its mode.
        query: (B, A, S, D).
        key: (B, G, K, D); A is a multiple of G.
        value: (B, G, K, D).
        attention_mask: (B or 1, 1, S, K), added to the scores; of truth values, which keys are seen.
        scaling: Factor on the scores.
        dropout: Probability of dropping an attention probability, in train mode.
        **_: What other attentions need.

    Returns:
        Mixed values (B, S, A, D) and probabilities (B, A, S, K).
    """
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    grouped = query.reshape(batch, groups, heads // groups * length, width)  # a group's heads share its keys
    scores = (grouped @ key.transpose(2, 3) * scaling).view(batch, heads, length, -1)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    probabilities = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    probabilities = F.dropout(probabilities, dropout, module.training)
    mixed = probabilities.view(batch, groups, -1, key.shape[2]) @ value
    return mixed.view(batch, heads, length, width).transpose(1, 2), probabilities


def sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    packed: PackedTexts | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """PyTorch's fused attention.

    Args:
        module: Unused here.
        query: (B, A, S, D).
        key: (B, G, K, D).
        value: (B, G, K, D).
        attention_mask: True where a query sees a key, or a number to add; None: each token sees those before
            it, counted from the first key.
        scaling: Factor on the scores.
        dropout: Probability of dropping an attention probability.
        packed: Texts that don't see each other.
        **_: What other attentions need.
    """
    if packed is None:
        return _fused(query, key, value, attention_mask, scaling, dropout).transpose(1, 2), None
    if cpu_attention.takes(query, None, dropout):
        queries, keys, values = (states.transpose(1, 2) for states in (query, key, value))
        return cpu_attention.attend(queries, keys, values, None, scaling, packed.lengths), None
    # Texts of one length go through the kernel together: the work grows with the sum of the squared lengths.
    flat = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]  # (B * S, heads, D)
    mixed = []
    for tokens in packed.alike:
        queries, keys, values = (
            states[tokens].transpose(1, 2) for states in flat
        )  # (texts, heads, length, D)
        mixed.append(_fused(queries, keys, values, None, scaling, dropout).transpose(1, 2).flatten(0, 1))
    return torch.cat(mixed)[packed.places].view(*query.transpose(1, 2).shape), None


def _fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, dropout: float
) -> Tensor:
    """(B, A, S, D). Grouped heads: kept apart where the kernel can, else the keys are repeated."""
    batch, heads, length, width = query.shape
    repeats = heads // key.shape[1]
    causal = False
    if mask is None and length > 1:  # asked in an `if`: under torch.compile the kernel takes no symbol
        causal = True
    if causal and key.shape[2] > length:  # a static cache, still empty: the rest of the keys comes later
        key, value = key[:, :, :length], value[:, :, :length]
    if cpu_attention.takes(query, mask, dropout):
        queries, keys, values = (states.transpose(1, 2) for states in (query, key, value))
        return cpu_attention.attend(queries, keys, values, mask, scaling).transpose(1, 2)
    native = False
    if repeats > 1 and length == 1:
        query = query.view(batch, -1, repeats, width)  # one token: the heads of a group as so many queries
    elif repeats > 1 and query.is_cuda and mask is None:
        native = True
    elif repeats > 1:
        key, value = (states.repeat_interleave(repeats, 1) for states in (key, value))
    mixed = F.scaled_dot_product_attention(
        query, key, value, mask, dropout, is_causal=causal, scale=scaling, enable_gqa=native
    )
    return mixed.view(batch, heads, length, width) if length == 1 else mixed


def behind(
    beginning: Cache,
    attend: Callable[..., tuple[Tensor, Tensor | None]],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of texts that begin alike, to keys and values that are held once for all of them.

    Args:
        beginning: Its keys and values, of one row, which all queries see.
        attend: The attention that several new tokens go through; a single one needs no more than products.
        module: The attention layer.
        query: (B, A, S, D).
        key: (B, G, K, D), of what comes after the beginning.
        value: (B, G, K, D).
        attention_mask: (B, 1, S, K), True where a query sees one of these keys.
        scaling: Factor on the scores.
        **kwargs: Arguments of `attend`.
    """
    layer: Any = beginning.layers[module.layer_idx]  # type: ignore[index]
    batch, heads, length, width = query.shape
    groups, held = layer.keys.shape[1:3]
    if length > 1:
        mask = F.pad(attention_mask, (held, 0), value=True)
        pairs = ((layer.keys, key), (layer.values, value))
        keys, values = (torch.cat((first.expand(batch, -1, -1, -1), rest), 2) for first, rest in pairs)
        return attend(module, query, keys, values, mask, scaling=scaling, **kwargs)

    def at_beginning(states: Tensor, other: Tensor) -> Tensor:
        """Product (B, G, A / G, M) of `states` (B, G, A / G, N) with `other` (G, N, M)."""
        product = states.transpose(0, 1).reshape(groups, -1, states.shape[-1]) @ other
        return product.view(groups, batch, -1, product.shape[-1]).transpose(0, 1)

    grouped = query.view(batch, groups, -1, width) * scaling
    scores = grouped @ key.transpose(2, 3)
    scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    scores = torch.cat((at_beginning(grouped, layer.keys[0].transpose(1, 2)), scores), -1)
    probabilities = scores.softmax(-1)
    mixed = at_beginning(probabilities[..., :held], layer.values[0]) + probabilities[..., held:] @ value
    return mixed.reshape(batch, 1, heads, width), None


def xformers(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    packed: PackedTexts | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Memory-efficient attention of xformers, where it has a kernel for the call, else `sdpa`.

    The arguments are those of `sdpa`, except that no mask means: each token sees those before it, counted
    from the last key, which is its own.
    """
    reason = why_not_xformers(query)
    if reason is None:
        ops = import_module("xformers.ops")
        bias = xformers_bias(attention_mask, packed, query, key.shape[2])
        repeats = query.shape[1] // key.shape[1]
        rows = [query, *(states.repeat_interleave(repeats, 1) for states in (key, value))]
        rows = [states.transpose(1, 2) for states in rows]  # (B, S or K, A, D)
        if packed is not None:
            rows = [states.reshape(1, -1, *states.shape[2:]) for states in rows]
        try:
            mixed = ops.memory_efficient_attention(*rows, attn_bias=bias, p=dropout, scale=scaling)
            _say("xformers", "use_memory_efficient_attention")
            return mixed.view(len(query), -1, *mixed.shape[2:]), None
        except (
            NotImplementedError
        ):  # what xformers raises when none of its kernels takes these shapes and dtypes
            reason = f"no xformers kernel takes {query.dtype} heads of width {query.shape[-1]} on this device"
    _say("sdpa", reason)
    length, keys = query.shape[2], key.shape[2]
    if attention_mask is None and 1 < length < keys:
        attention_mask = torch.ones(length, keys, dtype=torch.bool, device=query.device).tril(keys - length)
    return sdpa(module, query, key, value, attention_mask, scaling, dropout, packed, **kwargs)


def why_not_xformers(query: Tensor) -> str | None:
    """Why xformers can't attend with `query`, or None if it may be tried."""
    if not query.is_cuda:
        return f"xformers has no kernel for {query.device.type}"
    if query.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"xformers has no kernel for {query.dtype}"
    return None if find_spec("xformers") else "xformers is not installed"


def xformers_bias(mask: Tensor | None, packed: PackedTexts | None, query: Tensor, keys: int) -> Any:
    """Who sees whom in xformers' own terms, for `query` (B, A, S, D) and so many keys.

    Triangles and blocks are never written out as a matrix. A `mask` (B or 1, 1, S, K) is, with the rows
    padded to the eight columns that the kernel's loads need.
    """
    biases = import_module("xformers.ops.fmha.attn_bias")
    batch, heads, length, _ = query.shape
    if packed is not None:
        return biases.BlockDiagonalCausalMask.from_seqlens(packed.lengths)
    if mask is None:
        return biases.LowerTriangularFromBottomRightMask() if length > 1 else None
    aligned = torch.empty(len(mask), 1, length, -(-keys // 8) * 8, dtype=query.dtype, device=query.device)
    bias = aligned[..., :keys]
    if mask.dtype == torch.bool:
        bias.zero_().masked_fill_(~mask, torch.finfo(query.dtype).min)
    else:
        bias.copy_(mask)
    return bias.expand(batch, heads, -1, -1)


def xformers_mask(allow_is_causal_skip: bool = True, **kwargs: Any) -> Tensor | None:
    """The mask for `xformers`: none where the last query's own key is the last key and nothing is padded."""
    padding = kwargs["attention_mask"]
    if (
        allow_is_causal_skip
        and (padding is None or bool(padding.all()))
        and int(kwargs["q_offset"]) + kwargs["q_length"] == kwargs["kv_length"]
    ):
        return None
    return sdpa_mask(**kwargs, allow_is_causal_skip=False)


@cache
def _say(name: str, reason: str) -> None:
    """Log, once a process, which attention runs and why."""
    log.info("attention: %s (%s)", name, reason)


def default_attention(memory_efficient: bool) -> str:
    """The attention of a model that was not told which to use."""
    return "xformers" if memory_efficient and torch.cuda.is_available() and find_spec("xformers") else "sdpa"


# Attentions that are told the packed texts instead of a mask, and how.
PACKING: dict[str, Callable[[PackedTexts], dict[str, Any]]] = {
    "sdpa": lambda packed: {"packed": packed},
    "xformers": lambda packed: {"packed": packed},
    "flash_attention_2": PackedTexts.boundaries,
    "flash_attention_3": PackedTexts.boundaries,
}

# The global tables get the one name they lack; our own `eager` and `sdpa` are for our models only.
AttentionInterface.register("xformers", xformers)
AttentionMaskInterface.register("xformers", xformers_mask)
ATTENTION_FUNCTIONS = AttentionInterface()  # type: ignore[no-untyped-call]
ATTENTION_FUNCTIONS["eager"] = eager
ATTENTION_FUNCTIONS["sdpa"] = sdpa
