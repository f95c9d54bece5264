"""Tiny random causal models of transformers' own classes, one of each kind, in which every part matters."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

COMMON = dict(
    vocab_size=100,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=256,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, num_local_experts=4)
LATENT = dict(q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8)
# Name -> model type, and fields beside COMMON.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("gemma2", {"sliding_window": 16, "query_pre_attn_scalar": 8}),
    "gemma3, text": ("gemma3_text", {"sliding_window": 16, "query_pre_attn_scalar": 8}),
    "gemma3, multimodal": ("gemma3", {"sliding_window": 16}),
    "glm": ("glm", {}),
    "glm4": ("glm4", {}),
    "phi3": ("phi3", {"sliding_window": 16}),
    "olmo2": ("olmo2", {}),
    "cohere": ("cohere", {}),
    "starcoder2": ("starcoder2", {"sliding_window": 16}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),
    "qwen3_moe": ("qwen3_moe", EXPERTS),
    "mixtral": ("mixtral", EXPERTS),
    "deepseek_v3": (
        "deepseek_v3",
        {
            **LATENT,
            **EXPERTS,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
        },
    ),
    "minicpm3": ("minicpm3", {**LATENT, "num_key_value_heads": 4, "scale_emb": 2, "dim_model_base": 16}),
    "gpt_oss": ("gpt_oss", {**EXPERTS, "sliding_window": 16}),
    "falcon_h1": (
        "falcon_h1",
        {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
    ),
    "mamba": ("mamba", {"state_size": 8, "expand": 2}),
    "qwen3_5": (
        "qwen3_5_text",
        {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    ),
}


def kind(name: str, **fields: Any) -> PreTrainedModel:
    """The tiny model `name`, with further fields of its configuration."""
    model_type, own = KINDS[name]
    values = COMMON | own | fields
    if name == "gemma3, multimodal":
        text = values
        vision = dict(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        )
        values = {"text_config": text, "vision_config": vision, "mm_tokens_per_image": 4}
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**values))
    generator = torch.Generator().manual_seed(0)
    for weight_name, weight in made.named_parameters():
        if weight.is_floating_point() and "A_log" not in weight_name and "dt" not in weight_name:
            values = torch.randn(weight.shape, generator=generator) * 0.15
            weight.data.copy_(1 + values if "norm" in weight_name and weight.dim() == 1 else values)
    made.tie_weights()
    return made.eval()
