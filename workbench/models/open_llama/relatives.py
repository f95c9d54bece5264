"""Converts configurations of LLaMA and its relatives to Open-Llama's, and back."""

import math
from typing import Any

from transformers import (
    GraniteConfig,
    InternLM3Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from workbench.models.open_llama.own_configs import BaichuanConfig, InternLM2Config, MiniCPMConfig, QwenConfig

# Mistral adds windows to LLaMA, Qwen2 biases, Qwen3 norms on heads, Granite scales.
SLIDING = "sliding_attention"
"""transformers' name in `layer_types` of a layer with a window."""
FULL = "full_attention"
"""transformers' name in `layer_types` of a layer without a window."""
# `model_type` of LLaMA and its relatives -> configuration class.
RELATIVES: dict[str, type[PreTrainedConfig]] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "internlm2": InternLM2Config,
    "internlm3": InternLM3Config,
    "granite": GraniteConfig,
    "minicpm": MiniCPMConfig,
    "baichuan": BaichuanConfig,
    "qwen": QwenConfig,
}
NAMES = {
    "llama": "LLaMA",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "internlm2": "InternLM2",
    "internlm3": "InternLM3",
    "granite": "Granite",
    "minicpm": "MiniCPM",
    "baichuan": "Baichuan",
    "qwen": "Qwen 1",
}
SCALES = ("embedding_multiplier", "residual_multiplier", "logits_scaling", "attention_multiplier")
ATTENTION_BIAS = {"qkv_bias": "attention_bias", "o_bias": "attention_bias"}
WINDOW = {"sliding_window": "sliding_window"}
LAYER_WINDOWS = {**WINDOW, "layer_types": "layer_types"}
# Open-Llama's optional fields -> their names in a relative's configuration.
OPTIONAL_NAMES: dict[str, dict[str, str]] = {
    "llama": {**ATTENTION_BIAS, "mlp_bias": "mlp_bias"},
    "mistral": WINDOW,
    "qwen2": LAYER_WINDOWS,
    "qwen3": {**ATTENTION_BIAS, **LAYER_WINDOWS},
    "internlm2": {"qkv_bias": "bias", "o_bias": "bias"},
    "internlm3": {**ATTENTION_BIAS, "mlp_bias": "mlp_bias"},
    "granite": {**ATTENTION_BIAS, "mlp_bias": "mlp_bias", **{name: name for name in SCALES}},
    "minicpm": {
        "embedding_multiplier": "scale_emb",
        "residual_multiplier": "scale_depth",
        "logits_scaling": "dim_model_base",
    },
    "open-llama": {"mlp_bias": "mlp_bias", **{name: name for name in SCALES}, **LAYER_WINDOWS},
}
FIXED: dict[str, dict[str, bool]] = {
    "qwen": {"qkv_bias": True},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"head_norm": True},
}
"""Optional fields that all models of a relative have."""
SHARED_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "rope_parameters",
    "dtype",
    "id2label",
    "label2id",
    "problem_type",
)
OPTIONAL_FIELDS: dict[str, Any] = {
    "qkv_bias": False,
    "o_bias": False,
    "mlp_bias": False,
    "head_norm": False,
    "embedding_multiplier": 1,
    "residual_multiplier": 1,
    "logits_scaling": 1,
    "attention_multiplier": None,
    "sliding_window": None,
    "layer_types": None,
}
"""Fields of OpenLlamaConfig -> the value without effect, which isn't written to config.json."""
# Fields of LLaMA-like configurations that Open-Llama doesn't support -> the value without effect.
UNSUPPORTED: dict[str, Any] = {
    "attention_bias": False,
    "mlp_bias": False,
    "sliding_window": None,
    # Fields of similar architectures (Granite, Gemma, Cohere, MiniCPM, OLMo, ...), which LlamaConfig in
    # transformers ignores.
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "logit_scale": 1,
    "logits_scaling": 1,
    "embedding_multiplier": 1,
    "residual_multiplier": 1,
    "lm_head_multiplier": 1,
    "scale_emb": 1,
    "scale_depth": None,
    "dim_model_base": None,
    "clip_qkv": None,
    "qk_norm": False,
    "use_qk_norm": False,
    "qk_layernorm": False,
    "rope_interleaved": False,
    "no_rope_layers": None,
    "attention_chunk_size": None,
    "attn_temperature_tuning": False,
    "use_parallel_residual": False,
    "parallel_attn": False,
    "alibi": False,
    "is_causal": True,
    "use_bidirectional_attention": False,
}

LLAMA_SWITCHES = {
    "use_stable_embedding": False,
    "shared_input_output_embedding": False,
    "hidden_dropout_prob": 0.0,
    "attention_dropout_prob": 0.0,
}


def open_llama_fields(relative: PreTrainedConfig) -> dict[str, Any]:
    """Return the fields of OpenLlamaConfig for the Open-Llama that computes the same as LLaMA or a relative.

    Stable embedding, shared embedding and dropout of the MLP are off; attention dropout is the relative's.
    The rotary fields of `relative` are brought into transformers' present form in place.

    Raises:
        ValueError: Open-Llama doesn't support a field's value.
    """
    relative.standardize_rope_params()  # rope fields beside rope_parameters
    if reason := unsupported(relative):
        raise ValueError(f"config.json: {reason}")
    shared = {name: getattr(relative, name) for name in SHARED_FIELDS}
    if relative.model_type == "qwen":
        shared["intermediate_size"] //= 2  # of gate and up projection together
    return {
        **shared,
        **LLAMA_SWITCHES,
        "attention_dropout_prob": relative.attention_dropout,
        "head_dim": getattr(relative, "head_dim", None),
        **_optional_fields(relative),
    }


def _optional_fields(relative: PreTrainedConfig) -> dict[str, Any]:
    names = OPTIONAL_NAMES.get(relative.model_type, {})
    present = {ours: getattr(relative, theirs) for ours, theirs in names.items()}
    if relative.model_type == "minicpm":
        present["residual_multiplier"] /= math.sqrt(relative.num_hidden_layers)
        present["logits_scaling"] = relative.hidden_size / relative.dim_model_base
    if present.get("attention_multiplier") == _head_width(relative) ** -0.5:
        present["attention_multiplier"] = None
    slides = {kind == SLIDING for kind in present.get("layer_types") or ()}
    if slides == {False}:
        present["sliding_window"] = None
    if len(slides) == 1:
        present["layer_types"] = None
    return {**OPTIONAL_FIELDS, **present, **FIXED.get(relative.model_type, {})}


def _head_width(config: PreTrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads  # type: ignore[no-any-return]


def relative_config(config: Any, **fields: Any) -> PreTrainedConfig:
    """Return the configuration of the LLaMA or relative of LLaMA that computes the same as an Open-Llama.

    Args:
        config: Configuration of the Open-Llama. Its stable and shared embedding and dropout of the MLP are
            ignored, since no relative has them.
        **fields: Fields of the result that are added, or that replace those of the Open-Llama.

    Raises:
        ValueError: The relative that is most similar doesn't support a field of the Open-Llama.
    """
    is_scaled = any(getattr(config, name) != OPTIONAL_FIELDS[name] for name in SCALES)
    if config.head_norm or is_scaled:
        model_type = "qwen3" if config.head_norm else "granite"
    elif config.qkv_bias and not config.o_bias:
        model_type = "qwen2"
    else:
        model_type = "llama" if config.sliding_window is None else "mistral"
    own = {theirs: getattr(config, ours) for ours, theirs in OPTIONAL_NAMES.get(model_type, {}).items()}
    if model_type == "qwen3" or config.head_width != config.hidden_size // config.num_attention_heads:
        own["head_dim"] = config.head_width
    if model_type == "granite":
        own["attention_multiplier"] = config.attention_multiplier or config.head_width**-0.5
    if model_type in ("qwen2", "qwen3") and config.sliding_window is not None:
        own |= _qwen_windows(config)
    shared = {name: getattr(config, name) for name in SHARED_FIELDS}
    dropout = {"attention_dropout": config.attention_dropout_prob}
    relative = RELATIVES[model_type](**{**shared, **dropout, **own, **fields})
    for name, value in _optional_fields(relative).items():
        if value != getattr(config, name):
            raise ValueError(f"no {model_type} of transformers has {name}={getattr(config, name)}")
    return relative


def _qwen_windows(config: Any) -> dict[str, Any]:
    """Return the fields of Qwen's config.json that say which layers have a window.

    `use_sliding_window` and `max_window_layers` are for transformers before version 5.
    """
    slides = [window is not None for window in config.windows]
    return {
        "use_sliding_window": True,
        "max_window_layers": slides.index(True) if True in slides else len(slides),
        "layer_types": [SLIDING if has_window else FULL for has_window in slides],
    }


def unsupported(config: PreTrainedConfig) -> str:
    """Return a sentence on a field of LLaMA's or a relative's configuration that Open-Llama doesn't support.

    Empty if it supports all fields.
    """
    width = _head_width(config)
    neutral_values = {**UNSUPPORTED, "attention_multiplier": width**-0.5, "query_pre_attn_scalar": width}
    for name in OPTIONAL_NAMES.get(config.model_type, {}).values():
        neutral_values.pop(name, None)
    for name, neutral in neutral_values.items():
        value = getattr(config, name, None)
        if value is not None and value != neutral:
            return f"Open-Llama doesn't support {name}={value!r} (only {neutral!r})"
    layer_types = set(getattr(config, "layer_types", None) or ())
    known = _layer_types(config)
    if others := sorted(layer_types - known):
        names = " and ".join(repr(name) for name in sorted(known))
        return f"Open-Llama doesn't support layer_types with {others[0]!r} (only {names})"
    return ""


def _layer_types(config: PreTrainedConfig) -> set[str]:
    """Return the names that Open-Llama supports in `layer_types` of this configuration."""
    has_window = getattr(config, "sliding_window", None) is not None
    if config.model_type == "mistral":  # has one kind of layers, whatever `layer_types` says
        return {SLIDING if has_window else FULL}
    return {FULL, SLIDING} if has_window else {FULL}
