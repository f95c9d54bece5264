"""Reads configurations of ChatGLM3 and GLM-4, whose code is not run, as transformers' class Glm."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GlmConfig

from workbench.errors import CheckpointError

MODEL_TYPE = "chatglm"
SIZES = {
    "num_layers": "num_hidden_layers",
    "padded_vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "ffn_hidden_size": "intermediate_size",
    "kv_channels": "head_dim",
    "num_attention_heads": "num_attention_heads",
    "seq_length": "max_position_embeddings",
    "layernorm_epsilon": "rms_norm_eps",
}
"""Field of a ChatGLM's config.json -> field of GlmConfig."""
COPIED = (
    "attention_dropout",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "id2label",
    "label2id",
)
"""Fields that both have."""
FIXED: dict[str, Any] = {
    "rmsnorm": True,
    "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
    "add_bias_linear": False,
    "tie_word_embeddings": False,
    "hidden_dropout": 0.0,
    "quantization_bit": 0,
    "pre_seq_len": None,
    "vision_config": None,
}
"""Field -> its only value in transformers' Glm, which all published models have."""
GLM4_ROWS = 151552
"""Rows of the embedding of GLM-4."""
BASE = 10000.0
"""Base of the rotary embedding."""
WAY_OUT = "zai-org/glm-4-9b-chat-hf has transformers' own format"


def glm_config(stored: Mapping[str, Any], file: Path) -> GlmConfig:
    """Return the configuration of transformers' Glm that computes the same as a ChatGLM.

    Args:
        stored: Content of the ChatGLM's config.json.
        file: Path of config.json, for messages.

    Raises:
        CheckpointError: A field is missing, or no Glm computes the same.
    """
    if missing := [name for name in SIZES if name not in stored]:
        raise CheckpointError(
            f"{file}: {missing[0]} missing: ChatGLM of the first generation is not supported ({WAY_OUT})"
        )
    if stored.get("eos_token_id") is None:
        raise CheckpointError(f"{file}: eos_token_id missing (2 in ChatGLM2 and ChatGLM3)")
    if stored.get("multi_query_attention") is not True:
        raise CheckpointError(
            f"{file}: multi_query_attention={stored.get('multi_query_attention')!r:.40} is not supported, "
            f"only true, as in all published models ({WAY_OUT})"
        )
    for name, value in FIXED.items():
        if stored.get(name, value) not in (value, None):
            raise CheckpointError(f"{file}: {name}={stored[name]!r:.60} is not supported ({WAY_OUT})")
    fields = {ours: stored[theirs] for theirs, ours in SIZES.items()}
    fields |= {name: stored[name] for name in COPIED if stored.get(name) is not None}
    fields |= {
        "pad_token_id": stored.get("pad_token_id"),
        "num_key_value_heads": stored.get("multi_query_group_num", 1),
        "attention_bias": stored.get("add_qkv_bias", False),
        "hidden_act": "silu",
        "rope_theta": BASE * _rope_ratio(stored, file),
        "partial_rotary_factor": 0.5,
        "dtype": stored.get("torch_dtype", stored.get("dtype")),
    }
    return GlmConfig(**fields)


def _rope_ratio(stored: Mapping[str, Any], file: Path) -> Any:
    """Return the factor by which the model multiplies the base of its rotary positions.

    Raises:
        CheckpointError: The model isn't GLM-4, and the ratio isn't 1: in ChatGLM2 it divides the positions.
    """
    ratio = stored.get("rope_ratio") or 1
    if ratio != 1 and stored["padded_vocab_size"] != GLM4_ROWS:
        raise CheckpointError(
            f"{file}: rope_ratio={ratio!r:.40} divides positions in ChatGLM2 and multiplies the rotary base "
            f"in ChatGLM3, and config.json doesn't say which of them it is ({WAY_OUT})"
        )
    return ratio
