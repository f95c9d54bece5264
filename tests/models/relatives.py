"""Tiny random models of LLaMA's relatives in transformers, in which biases and norms matter."""

from typing import Any

import torch
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    InternLM3Config,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    MistralForSequenceClassification,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM, OpenLlamaForSequenceClassification

SIZES = dict(
    vocab_size=100,  # with rows for the tokens that Qwen2's tokenizer adds
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
CLASSES: dict[str, tuple[Any, Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification),
    "mistral": (MistralConfig, MistralForCausalLM, MistralForSequenceClassification),
    "granite": (GraniteConfig, GraniteForCausalLM, None),
    "internlm3": (InternLM3Config, LlamaForCausalLM, LlamaForSequenceClassification),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification),
}
# Name -> model type, and fields beside SIZES.
RELATIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, attention biases": ("llama", {"attention_bias": True}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama, wide heads": ("llama", {"head_dim": 24}),
    "mistral, narrow heads": ("mistral", {"sliding_window": None, "head_dim": 8}),
    "mistral, window": ("mistral", {"sliding_window": 8, "head_dim": 8}),
    "qwen2, window in one layer": (
        "qwen2",
        {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1},
    ),
    "qwen2": ("qwen2", {"sliding_window": 16, "use_sliding_window": False}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "qwen3": ("qwen3", {"head_dim": 32, "sliding_window": 16, "use_sliding_window": False}),
    "internlm3": ("internlm3", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
    "granite": (
        "granite",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "logits_scaling": 2.5,
            "attention_multiplier": 0.1,
        },
    ),
    "qwen3, tied": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3, biases": ("qwen3", {"head_dim": 24, "attention_bias": True, "num_key_value_heads": 1}),
}


def relative(name: str, is_classifier: bool = False, seed: int = 0, **fields: Any) -> PreTrainedModel:
    """A model of transformers' own class with random biases and norms."""
    kind, own = RELATIVES[name]
    config, causal, classifier = CLASSES[kind]
    made: PreTrainedModel = (classifier if is_classifier else causal)(config(**(SIZES | own | fields)))
    generator = torch.Generator().manual_seed(seed)
    for weight_name, weight in made.named_parameters():
        values = torch.randn(weight.shape, generator=generator) * 0.15
        weight.data.copy_(1 + values if "norm" in weight_name else values)
    made.tie_weights()
    return made.eval()


def as_open_llama(reference: PreTrainedModel, **options: Any) -> PreTrainedModel:
    """The Open-Llama with the same weights."""
    config = OpenLlamaConfig.from_dict(reference.config.to_dict(), **options)
    is_classifier = hasattr(reference, "score")
    made = (OpenLlamaForSequenceClassification if is_classifier else OpenLlamaForCausalLM)(config)
    made.load_state_dict(reference.state_dict())
    return made.eval()


def tokens(batch: int = 2, length: int = 24, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, 96, (batch, length), generator=torch.Generator().manual_seed(seed))
