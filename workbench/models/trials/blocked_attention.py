"""Runs `cpu_attention` in models of transformers' own classes, through transformers' attention interface.

The kernel names every keyword that a model may pass to it and refuses all others, so that a model with a soft
cap or sinks is never computed without them. A trial compares it with the model's own eager attention.

Shapes: B batch, S new tokens, K keys (cached and new), A query heads, G key/value heads, D head width.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    AttentionMaskInterface,
    create_causal_mask,
    create_sliding_window_causal_mask,
    sdpa_mask,
)
from transformers.modeling_utils import AttentionInterface

from workbench.errors import first_line
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.ops import cpu_attention

NAME = "blocked"
"""Name of the kernel in transformers' tables of attention kernels and of their masks."""
PROBE = "blocked-probe"
"""Name of the kernel that compares the blocked one with the model's eager attention."""
WITHOUT_EFFECT = frozenset(
    (
        "cache_position",
        "cu_seq_lens_k",
        "cu_seq_lens_q",
        "max_length_k",
        "max_length_q",
        "num_items_in_batch",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "return_dict",
        "seq_idx",
        "sliding_window",
        "use_cache",
    )
)
"""Keywords that models pass to attention and that don't change its outputs, or only through the mask."""
LENGTHS = (1, 2, cpu_attention.BLOCK - 1, cpu_attention.BLOCK, 2 * cpu_attention.BLOCK + 5)
"""Lengths of the trial's texts, in tokens; lengths around the size of a sliding window are tried, too."""
MOST_TOKENS = 4096
"""Longest text of a trial, in tokens: the scores of longer ones would need gigabytes."""
TOLERANCE = 1e-5
"""Largest difference from eager attention in float32, relative to the largest output, beside ROUNDING."""
ROUNDING = 2 * torch.finfo(torch.float32).eps
"""Further difference, relative to the largest score: the rounding of a score changes its probability."""
SCALES = (1.0, 30.0)
"""Factors on the queries: a soft cap changes small scores too little to be seen."""


def blocked(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute attention with `cpu_attention` where that is faster, else with sdpa.

    Returns the outputs (B, S, A, D), and None in place of attention probabilities.

    Args:
        module: The attention layer.
        query: (B, A, S, D).
        key: (B, G, K, D).
        value: (B, G, K, D).
        attention_mask: Boolean (B or 1, 1, S, K), True for keys to attend to; None: causal.
        dropout: Probability of dropping an attention probability.
        scaling: Factor on the scores; default: D ** -0.5.
        is_causal: Whether attention without a mask is causal; default: as the layer says.
        **kwargs: Keywords of WITHOUT_EFFECT.

    Raises:
        NotImplementedError: A keyword changes the result, or isn't known.
    """
    _refuse_others(kwargs)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if _fits(query, key, value, attention_mask, causal) and cpu_attention.takes(
        query, attention_mask, dropout
    ):
        return _attend(query, key, value, attention_mask, scaling), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
    )


def _refuse_others(kwargs: dict[str, Any]) -> None:
    """Raise NotImplementedError if a keyword that is given isn't one of WITHOUT_EFFECT."""
    for name, keyword in kwargs.items():
        if name not in WITHOUT_EFFECT and keyword is not None and keyword is not False:
            raise NotImplementedError(f"attention with {name}")


def _fits(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> bool:
    """Return whether `cpu_attention` computes this case: without a mask only plain causal attention."""
    same_width = query.shape[-1] == key.shape[-1] == value.shape[-1]
    return same_width and (mask is not None or (causal and query.shape[2] == key.shape[2]))


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    queries, keys, values = (states.transpose(1, 2) for states in (query, key, value))
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    return cpu_attention.attend(queries, keys, values, mask, factor)


AttentionInterface.register(NAME, blocked)
AttentionMaskInterface.register(NAME, sdpa_mask)


def use_blocked_attention(model: PreTrainedModel) -> str:
    """Switch the model's attention to the kernel `blocked`, if a trial finds it equal to its eager attention.

    Args:
        model: A causal language model in eval mode; it is changed in place.

    Returns:
        Why the model keeps its attention, as a phrase; empty if it has the blocked one now.
    """
    own = model.config.get_text_config()._attn_implementation
    if own != "sdpa":
        return f"transformers has only {own} attention for it"
    try:
        reason = _difference(model)
    except BROKEN as error:  # NotImplementedError of `blocked` is a RuntimeError
        reason = f"{first_line(error):.80}"
    if not reason:
        model.set_attn_implementation(NAME)
        if model.config.get_text_config()._attn_implementation != NAME:
            reason = "transformers can't exchange its attention"
    return reason


class _Differences:
    """Attention kernel that compares the blocked kernel with the model's eager one, layer by layer."""

    def __init__(self) -> None:
        self.modules: dict[tuple[type, Any], tuple[nn.Module, dict[str, Any]]] = {}
        """One attention layer of each class and window, and the keywords that it was called with."""
        self.largest = 0.0
        """Largest difference beyond that of rounding."""
        self.num_compared = 0

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        self.modules[type(module), kwargs.get("sliding_window")] = module, kwargs
        self.compare(module, query, key, value, attention_mask, kwargs)
        return blocked(module, query, key, value, attention_mask, **kwargs)

    def compare(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        kwargs: dict[str, Any],
    ) -> None:
        """Add the difference between the two kernels in float32, for the query and for 30 times the query."""
        named = {name: value for name, value in kwargs.items() if name not in ("scaling", "dropout")}
        _refuse_others({name: value for name, value in named.items() if name != "is_causal"})
        if not _fits(query, key, value, mask, getattr(module, "is_causal", True)):
            return  # `blocked` calls sdpa
        self.num_compared += 1
        eager = _eager_attention(module)
        keys, values = key.float(), value.float()
        for scale in SCALES:
            queries = query.float() * scale
            expected, _ = eager(module, queries, keys, values, _additive(mask, query, key), **kwargs)
            ours = _attend(queries, keys, values, mask, kwargs.get("scaling"))
            attends = torch.ones_like(ours[:, :, :1, :1], dtype=torch.bool)
            if mask is not None:  # padding that attends to nothing
                attends = mask.any(-1).transpose(1, 2)[..., None].expand(len(ours), -1, -1, -1)
            error = ((ours - expected) * attends).abs().max() / expected.abs().max()
            beyond = error - ROUNDING * _largest_score(queries, keys, kwargs.get("scaling"))
            self.largest = max(self.largest, float(beyond.nan_to_num(torch.inf)))


def _largest_score(query: Tensor, key: Tensor, scaling: float | None) -> Tensor:
    """Return an upper bound of the attention scores."""
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    return query.norm(dim=-1).max() * key.norm(dim=-1).max() * factor  # type: ignore[no-any-return]


def _eager_attention(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the eager attention in the module of the layer's class.

    Raises:
        RuntimeError: There is none.
    """
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise RuntimeError("no eager attention to compare with")
    return cast(Callable[..., tuple[Tensor, Tensor]], eager)


def _additive(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor:
    """Return the mask (B or 1, 1, S, K) to add to scores in float32; `mask` is boolean, None causal."""
    if mask is None:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[
            None, None
        ]
    return torch.zeros(mask.shape, device=query.device).masked_fill_(~mask, torch.finfo(torch.float32).min)


def _difference(model: PreTrainedModel) -> str:
    """Return in what the blocked attention differs from the model's own; empty if in nothing."""
    differences = _Differences()
    config = model.config.get_text_config()
    with torch.no_grad(), _attention(model, differences):
        for positions in (None, torch.arange(12, device=model.device).repeat(2)[None]):
            ids = torch.arange(1, 25, device=model.device)[None] % int(config.vocab_size)
            model(input_ids=ids, position_ids=positions, use_cache=False)
        if not differences.modules:
            return "it doesn't call transformers' attention interface"
        if not differences.num_compared:
            return "its keys and values have different widths"
        for module, kwargs in list(differences.modules.values()):
            _compare_lengths(differences, module, kwargs, config)
    return "" if differences.largest <= TOLERANCE else f"its attention differs by {differences.largest:.0e}"


@contextmanager
def _attention(model: PreTrainedModel, kernel: _Differences) -> Iterator[None]:
    """Within the context, let the model compute its attention by `kernel`."""
    AttentionInterface.register(PROBE, cast(Callable[..., Any], kernel))
    AttentionMaskInterface.register(PROBE, sdpa_mask)
    model.set_attn_implementation(PROBE)
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")
        kernel.modules.clear()  # transformers' table holds the kernel for as long as the process lives


def _compare_lengths(
    differences: _Differences, module: nn.Module, kwargs: dict[str, Any], config: PreTrainedConfig
) -> None:
    """Compare the kernels on random states of several lengths, with the masks that transformers makes."""
    groups, width = int(getattr(module, "num_key_value_groups", 1)), int(getattr(module, "head_dim", 16))
    window = kwargs.get("sliding_window")
    around = (window - 1, window, window + 1, 3 * window) if window else ()
    generator = torch.Generator().manual_seed(0)
    for length in sorted({length for length in (*LENGTHS, *around) if 0 < length <= MOST_TOKENS}):
        query = torch.randn(1, groups, length, width, generator=generator)
        key, value = torch.randn(2, 1, 1, length, width, generator=generator)
        padded, packed = torch.ones(1, length), torch.arange(length) % max(1, length // 2 + 1)
        padded[:, : length // 3] = 0
        for mask, positions in ((None, None), (padded, None), (None, packed[None])):
            arguments: dict[str, Any] = {
                "config": config,
                "inputs_embeds": torch.zeros(1, length, 1),
                "attention_mask": mask,
                "past_key_values": None,
                "position_ids": positions,
            }
            create = create_sliding_window_causal_mask if window else create_causal_mask
            allowed = cast(Tensor | None, create(**arguments))
            differences.compare(module, query, key, value, allowed, kwargs)
