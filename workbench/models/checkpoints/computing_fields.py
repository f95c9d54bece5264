"""Compares the fields of config.json that change what a model computes from its weights.

Versions of transformers write them differently; compared are the values that this version reads.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from transformers import CONFIG_MAPPING

from workbench.contexts import quiet_transformers
from workbench.models.checkpoints.checkpoint import BROKEN

COMPUTING = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "hidden_act", "hidden_activation", "rms_norm_eps", "layer_norm_eps"),
    *("sliding_window", "layer_types", "num_experts_per_tok", "norm_topk_prob", "query_pre_attn_scalar"),
    *("attn_logit_softcapping", "final_logit_softcapping", "logit_scale", "logits_scaling"),
    *("embedding_multiplier", "attention_multiplier", "residual_multiplier"),
)
"""Fields of config.json that change what the weights compute, besides the rotary parameters."""
OPEN_LLAMA = ("open-llama", "llama")
"""Model types that this project converts into each other; their fields have other names."""


def changed_fields(base: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the fields of a config.json that differ from the base's, as in `head_dim=32 instead of 64`.

    Fields that only one of them has are left out.
    """
    is_converted = base.get("model_type") != other.get("model_type") and all(
        config.get("model_type") in OPEN_LLAMA for config in (base, other)
    )
    before, after = _as_read(base), _as_read(other)
    pairs = {name: (before[name], after[name]) for name in COMPUTING if name in before and name in after}
    pairs = {} if is_converted else pairs
    ropes = _rope(before), _rope(after)
    pairs |= {name: (ropes[0][name], ropes[1][name]) for name in ropes[0] if name in ropes[1]}
    return [
        f"{name}={value!r:.30} instead of {expected!r:.30}"
        for name, (expected, value) in pairs.items()
        if value != expected
    ]


def _as_read(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields as transformers reads them, with its defaults; unchanged if it can't read them."""
    model_type = str(config.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        return config
    try:
        with quiet_transformers():
            return dict(CONFIG_MAPPING[model_type].from_dict(deepcopy(dict(config))).to_dict())
    except BROKEN:
        return config


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rotary parameters by name; those of old files, and those of kinds of layers, too."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling")
    parameters = dict(parameters) if isinstance(parameters, Mapping) else {}
    if parameters and all(isinstance(value, Mapping) for value in parameters.values()):
        return {f"{kind}: {name}": value for kind in parameters for name, value in parameters[kind].items()}
    rope_type = parameters.pop("rope_type", None) or parameters.pop("type", None) or "default"
    theta = parameters.pop("rope_theta", None) or config.get("rope_theta") or 10000.0
    parameters.pop("type", None)
    return {"rope_theta": float(theta), "rope_type": rope_type, **parameters}
