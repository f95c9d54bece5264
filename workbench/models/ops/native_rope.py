"""Lets rotary embeddings of transformers' own classes compute each text by the frequencies of its own length.

With the rope types `dynamic` and `longrope`, the longest text of a batch decides the frequencies of all texts
in it, and the dynamic type keeps those of the longest text so far.

Shapes: B batch, S new tokens, K keys (cached and new), D head width.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MethodType
from typing import Any

from torch import Tensor, nn

from workbench.model_trials.lengths import LENGTH_DEPENDENT_ROPES
from workbench.models.ops.packed_sequences import positions_of_tokens, text_lengths


def separate_ropes(model: nn.Module) -> None:
    """Change the rotary embeddings of `model` in place: each text gets the frequencies of its own length.

    Position ids tell texts apart: a text begins where a position isn't the previous one plus one. A model
    that gets a padding mask without position ids numbers each row's tokens from 0, without padding.
    """
    for name, module in list(model.named_modules()):
        if any(_types(module)):
            module.forward = MethodType(_separate, module)
            parent = model.get_submodule(name.rpartition(".")[0])
            parent.register_forward_pre_hook(_number_tokens, with_kwargs=True)


def _types(module: nn.Module) -> Iterator[str]:
    """Yield the length-dependent rope types of a rotary embedding; of any other module none."""
    types: Any = getattr(module, "rope_type", None) if hasattr(module, "original_max_seq_len") else None
    for rope_type in types.values() if isinstance(types, Mapping) else [types]:
        if rope_type in LENGTH_DEPENDENT_ROPES:
            yield rope_type


def _number_tokens(
    _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Add the position ids (B, S) of rows with a padding mask to the keywords of a model's call."""
    mask = kwargs.get("attention_mask")
    tokens = kwargs.get("input_ids") if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"]
    if kwargs.get("position_ids") is not None or not isinstance(mask, Tensor) or mask.dim() != 2:
        return None
    tokens = args[0] if tokens is None else tokens
    return args, {**kwargs, "position_ids": positions_of_tokens(mask)[:, -tokens.shape[1] :]}


def _separate(self: Any, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> Any:
    """Compute cosine and sine (B, S, D) of `position_ids` (B, S) by the module's own forward, text by text.

    Texts with the same frequencies are computed together.
    """
    named = {} if layer_type is None else {"layer_type": layer_type}
    rope_type = self.rope_type if layer_type is None else self.rope_type[layer_type]
    own = type(self).forward
    if rope_type not in LENGTH_DEPENDENT_ROPES or position_ids.dim() != 2:
        return own(self, x, position_ids, **named)
    lengths = text_lengths(position_ids)
    lengths = lengths.where(lengths > _unchanged_length(self, layer_type), 0)
    if rope_type == "longrope":
        lengths = lengths.sign()
    groups = [lengths == length for length in sorted(set(lengths.flatten().tolist()))]
    outputs = []
    for is_member in groups:
        own(self, x[:1, :1], position_ids.new_zeros(1, 1), **named)  # forgets longer texts
        outputs.append(own(self, x[:1], position_ids[is_member][None], **named))
    if isinstance(outputs[0], Tensor):
        return _joined(groups, outputs)
    return tuple(_joined(groups, tables) for tables in zip(*outputs, strict=True))


def _joined(groups: Sequence[Tensor], tables: Sequence[Tensor]) -> Tensor:
    """Return one table (B, S, D) of those of groups, each (1, tokens, D); a group is a mask (B, S)."""
    joined = tables[0].new_empty(*groups[0].shape, tables[0].shape[-1])
    for is_member, table in zip(groups, tables, strict=True):
        joined[is_member] = table[0]
    return joined


def _unchanged_length(module: Any, layer_type: str | None) -> int:
    """Return the number of tokens up to which texts have the frequencies of short ones."""
    rope = module.config.rope_parameters if layer_type is None else module.config.rope_parameters[layer_type]
    own = rope.get("original_max_position_embeddings") if rope["rope_type"] == "longrope" else None
    return int(own or module.original_max_seq_len)
