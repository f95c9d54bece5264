"""Converts the tensor names of model types that transformers doesn't have to those of LLaMA's tensors.

These models store queries, keys and values in one tensor. Their code is in their own repositories, and isn't
run.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from workbench.errors import CheckpointError
from workbench.models.checkpoints.stable_embedding import HEAD
from workbench.models.open_llama.own_configs import BAICHUAN2_ROWS
from workbench.models.stored import Stored
from workbench.weights.file_tensors import FileTensor
from workbench.weights.fused_rows import FusedRows
from workbench.weights.normalized_rows import NormalizedRows

LAYER = re.compile(r"(.*\b(?:layers|h)\.\d+\.)(.+)")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a model type names its tensors and arranges queries, keys and values, unlike LLaMA."""

    fused: str
    """Module in each layer whose tensor contains queries, keys and values."""
    is_grouped: bool = False
    """Whether each key and value head's rows follow those of its query heads; else all queries come first."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """Other modules -> LLaMA's, in the model or in a layer."""
    prefix: str = "model.layers."
    """Beginning of the names of layers; `model.layers.` in LLaMA's."""
    dropped: tuple[str, ...] = ()
    """Modules with tables that are not weights."""
    normalizing_rows: int = 0
    """Rows of the heads that the model normalizes, row by row; heads of other sizes are used as they are."""


LAYOUTS = {
    # modeling_internlm2.py of huggingface.co/internlm/internlm2-7b
    "internlm2": Layout(
        fused="attention.wqkv",
        is_grouped=True,
        modules={
            "model.tok_embeddings": "model.embed_tokens",
            "tok_embeddings": "embed_tokens",
            "output": "lm_head",
            "attention.wo": "self_attn.o_proj",
            "attention_norm": "input_layernorm",
            "ffn_norm": "post_attention_layernorm",
            "feed_forward.w1": "mlp.gate_proj",
            "feed_forward.w2": "mlp.down_proj",
            "feed_forward.w3": "mlp.up_proj",
        },
    ),
    # modeling_baichuan.py of huggingface.co/baichuan-inc/Baichuan2-7B-Base
    "baichuan": Layout(fused="self_attn.W_pack", normalizing_rows=BAICHUAN2_ROWS),
    # modeling_chatglm.py of huggingface.co/THUDM/glm-4-9b and chatglm3-6b; the other names are Glm's
    "chatglm": Layout(
        fused="self_attention.query_key_value",
        prefix="transformer.encoder.layers.",
        modules={
            "transformer.embedding.word_embeddings": "model.embed_tokens",
            "transformer.encoder.final_layernorm": "model.norm",
            "transformer.output_layer": "lm_head",
            "self_attention.dense": "self_attn.o_proj",
            "mlp.dense_h_to_4h": "mlp.gate_up_proj",
            "mlp.dense_4h_to_h": "mlp.down_proj",
        },
        dropped=("transformer.rotary_pos_emb",),
    ),
    # modeling_qwen.py of huggingface.co/Qwen/Qwen-7B
    "qwen": Layout(
        fused="attn.c_attn",
        prefix="transformer.h.",
        modules={
            "transformer.wte": "model.embed_tokens",
            "transformer.ln_f": "model.norm",
            "ln_1": "input_layernorm",
            "ln_2": "post_attention_layernorm",
            "attn.c_proj": "self_attn.o_proj",
            "mlp.w1": "mlp.up_proj",
            "mlp.w2": "mlp.gate_proj",
            "mlp.c_proj": "mlp.down_proj",
        },
        dropped=("attn", "transformer.rotary_emb"),
    ),
}


def with_llama_names(
    model_type: str, config: Any, tensors: Mapping[str, Stored], path: Path
) -> Mapping[str, Stored]:
    """Return LLaMA's name -> tensor; `tensors` itself for a model type that isn't in LAYOUTS.

    Args:
        model_type: `model_type` of config.json.
        config: The model's configuration, with the fields of LlamaConfig.
        tensors: Name in the files -> tensor; none is read here.
        path: The model folder, for messages.

    Raises:
        CheckpointError: A fused tensor's shape contradicts config.json, or two tensors get the same name.
    """
    layout = LAYOUTS.get(model_type)
    if layout is None:
        return tensors
    named: dict[str, Stored] = {}
    for name, tensor in tensors.items():
        for new_name, projection in _converted(layout, config, name, tensor, path):
            if new_name in named:
                raise CheckpointError(f"{path}: {name} is also there under another name, {new_name}")
            named[new_name] = projection
    if config.vocab_size == layout.normalizing_rows:
        heads = [name for name in named if name.endswith(HEAD)]  # behind prefixes of wrappers, too
        named |= {name: NormalizedRows(cast(FileTensor, named[name])) for name in heads}
    return named


def _converted(
    layout: Layout, config: Any, name: str, tensor: Stored, path: Path
) -> Iterator[tuple[str, Stored]]:
    """Yield LLaMA's names and tensors for one tensor of the files.

    A fused tensor yields three; a table that isn't a weight yields none.
    """
    module, _, kind = name.rpartition(".")
    layer = LAYER.fullmatch(module)
    prefix, inner = layer.groups() if layer else ("", module)
    prefix = prefix.replace(layout.prefix, "model.layers.", 1)
    if inner in layout.dropped:
        return
    if inner != layout.fused:
        yield f"{prefix}{layout.modules.get(inner, inner)}.{kind}", tensor
        return
    for projection, rows in _split(layout, config, name, tensor, path).items():
        yield f"{prefix}self_attn.{projection}.{kind}", rows


def _split(layout: Layout, config: Any, name: str, tensor: Stored, path: Path) -> dict[str, FusedRows]:
    """Return the rows of `q_proj`, `k_proj` and `v_proj` in a fused tensor, which is not read yet.

    Raises:
        CheckpointError: The tensor's shape contradicts config.json.
    """
    width = config.head_dim
    num_groups = config.num_key_value_heads if layout.is_grouped else 1
    queries = config.num_attention_heads * width // num_groups
    keys = config.num_key_value_heads * width // num_groups
    group = queries + 2 * keys
    expected = (num_groups * group, config.hidden_size)[: 1 if name.endswith(".bias") else 2]
    if tuple(tensor.shape) != expected:
        raise CheckpointError(
            f"{path}: does not fit, {name}: {tuple(tensor.shape)} in the file, {expected} by config.json"
        )
    fused = cast(FileTensor, tensor)
    return {
        "q_proj": FusedRows(fused=fused, group=group, start=0, count=queries),
        "k_proj": FusedRows(fused=fused, group=group, start=queries, count=keys),
        "v_proj": FusedRows(fused=fused, group=group, start=queries + keys, count=keys),
    }
