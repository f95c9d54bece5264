"""Models whose code is only in their own repositories: tiny random ones, and what their formulas compute.

Each formula is that of the repository's modeling file, in float32 and without a cache.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from published_parts import angles, attended, mlp, rms, rotated
from published_qwen import QWEN_CONFIG, qwen_logits, qwen_shapes
from safetensors.torch import save_file
from tiny_checkpoints import words_tokenizer
from torch import Tensor

Tensors = dict[str, Tensor]

SIZES = dict(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    rms_norm_eps=1e-5,
    max_position_embeddings=64,
    hidden_act="silu",
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=2,
    tie_word_embeddings=False,
)
CONFIGS: dict[str, dict[str, Any]] = {
    "internlm2": dict(model_type="internlm2", bias=False, num_key_value_heads=2, rope_theta=1e6),
    # num_key_value_heads and bias by default: one per query head, and true
    "internlm2, biases": dict(model_type="internlm2"),
    "baichuan": dict(model_type="baichuan", vocab_size=64000, hidden_size=16, num_attention_heads=2),
    "baichuan2": dict(model_type="baichuan", vocab_size=125696, hidden_size=16, num_attention_heads=2),
    "qwen": QWEN_CONFIG,
}

CHATGLM_SIZES = dict(
    model_type="chatglm",
    num_layers=2,
    padded_vocab_size=96,
    vocab_size=96,
    hidden_size=64,
    ffn_hidden_size=96,
    kv_channels=16,
    num_attention_heads=4,
    multi_query_attention=True,
    multi_query_group_num=2,
    seq_length=64,
    layernorm_epsilon=1e-5,
    add_qkv_bias=True,
    eos_token_id=2,
    pad_token_id=0,
)
CHATGLMS: dict[str, dict[str, Any]] = {
    "chatglm3": dict(rope_ratio=1),
    "chatglm3, no biases": dict(add_qkv_bias=False),
    "glm-4": dict(padded_vocab_size=151552, rope_ratio=500, hidden_size=16, num_attention_heads=2),
}
CONFIGS_OF_ALL = {name: ({} if name == "qwen" else SIZES) | own for name, own in CONFIGS.items()} | {
    name: CHATGLM_SIZES | own for name, own in CHATGLMS.items()
}


def config_of(name: str) -> dict[str, Any]:
    return CONFIGS_OF_ALL[name]


def folder_of(name: str, folder: Path, **fields: Any) -> Tensors:
    """Write the folder of a model, which names code that isn't there; return its tensors."""
    config = config_of(name) | fields
    tensors = drawn(SHAPES[config["model_type"]](config))
    folder.mkdir(parents=True, exist_ok=True)
    code = {"AutoConfig": "configuration.Config", "AutoModelForCausalLM": "modeling.ForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": code, "torch_dtype": "float32"}))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    words_tokenizer().save_pretrained(folder)
    return tensors


def drawn(shapes: dict[str, tuple[int, ...]]) -> Tensors:
    """Random weights in which biases and norms matter."""
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.randn(shape, generator=generator) * 0.15 for name, shape in shapes.items()}
    return {
        name: 1 + weight if "norm" in name or "ln_" in name else weight for name, weight in values.items()
    }


def published_logits(config: dict[str, Any], tensors: Tensors, ids: Tensor) -> Tensor:
    return LOGITS[config["model_type"]](config, tensors, ids)


def published_loss(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def published_answer(config: dict[str, Any], tensors: Tensors, ids: Tensor, length: int) -> Tensor:
    """Greedy generation, all tokens anew at every step."""
    for _ in range(length):
        ids = torch.cat([ids, published_logits(config, tensors, ids)[:, -1].argmax(-1)[:, None]], 1)
    return ids


def internlm2_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    fused = (heads + 2 * config.get("num_key_value_heads", heads)) * hidden // heads
    shapes: dict[str, tuple[int, ...]] = {
        "model.tok_embeddings.weight": (rows, hidden),
        "model.norm.weight": (hidden,),
        "output.weight": (rows, hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        own: dict[str, tuple[int, ...]] = {
            "attention.wqkv.weight": (fused, hidden),
            "attention.wo.weight": (hidden, hidden),
            "feed_forward.w1.weight": (inner, hidden),
            "feed_forward.w3.weight": (inner, hidden),
            "feed_forward.w2.weight": (hidden, inner),
            "attention_norm.weight": (hidden,),
            "ffn_norm.weight": (hidden,),
        }
        if config.get("bias", True):
            own |= {"attention.wqkv.bias": (fused,), "attention.wo.bias": (hidden,)}
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in own.items()}
    return shapes


def internlm2_theta(config: dict[str, Any], ids: Tensor) -> float:
    """The rotary base, which grows with texts beyond the trained length where rope_scaling is dynamic."""
    theta, scaling = float(config.get("rope_theta", 1e4)), config.get("rope_scaling")
    trained, width = config["max_position_embeddings"], config["hidden_size"] // config["num_attention_heads"]
    if scaling is None or ids.shape[1] <= trained:
        return theta
    factor = scaling["factor"]
    return float(theta * (factor * ids.shape[1] / trained - (factor - 1)) ** (width / (width - 2)))


def internlm2_logits(config: dict[str, Any], tensors: Tensors, ids: Tensor) -> Tensor:
    """modeling_internlm2.py of huggingface.co/internlm/internlm2-7b."""
    eps, heads, theta = config["rms_norm_eps"], config["num_attention_heads"], internlm2_theta(config, ids)
    groups = config.get("num_key_value_heads", heads)
    hidden = tensors["model.tok_embeddings.weight"][ids]
    for number in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{number}."
        layer = {name.removeprefix(prefix): value for name, value in tensors.items() if prefix in name}
        normed = rms(hidden, layer["attention_norm.weight"], eps)
        fused = F.linear(normed, layer["attention.wqkv.weight"], layer.get("attention.wqkv.bias"))
        # 'b q (h gs d) -> b q h gs d': in each group the query heads, then a key and a value head
        fused = fused.unflatten(-1, (groups, 2 + heads // groups, -1))
        queries = fused[..., : heads // groups, :].flatten(2, 3).transpose(1, 2)
        keys, values = (fused[..., place, :].transpose(1, 2) for place in (-2, -1))
        mixed = attended(rotated(queries, theta), rotated(keys, theta), values)
        hidden = hidden + F.linear(mixed, layer["attention.wo.weight"], layer.get("attention.wo.bias"))
        normed = rms(hidden, layer["ffn_norm.weight"], eps)
        gated = F.silu(normed @ layer["feed_forward.w1.weight"].T) * (
            normed @ layer["feed_forward.w3.weight"].T
        )
        hidden = hidden + gated @ layer["feed_forward.w2.weight"].T
    return rms(hidden, tensors["model.norm.weight"], eps) @ tensors["output.weight"].T


def baichuan_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (rows, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (rows, hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        own: dict[str, tuple[int, ...]] = {
            "self_attn.W_pack.weight": (3 * hidden, hidden),
            "self_attn.o_proj.weight": (hidden, hidden),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
        }
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in own.items()}
    return shapes


def baichuan_logits(config: dict[str, Any], tensors: Tensors, ids: Tensor) -> Tensor:
    """modeling_baichuan.py of huggingface.co/baichuan-inc/Baichuan-7B, and Baichuan2-7B-Base's NormHead."""
    eps, heads = config["rms_norm_eps"], config["num_attention_heads"]
    hidden = tensors["model.embed_tokens.weight"][ids]
    for number in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{number}."
        layer = {name.removeprefix(prefix): value for name, value in tensors.items() if prefix in name}
        fused = rms(hidden, layer["input_layernorm.weight"], eps) @ layer["self_attn.W_pack.weight"].T
        queries, keys, values = fused.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attended(rotated(queries, 1e4), rotated(keys, 1e4), values)
        hidden = hidden + mixed @ layer["self_attn.o_proj.weight"].T
        normed = rms(hidden, layer["post_attention_layernorm.weight"], eps)
        gate, up, down = (layer[f"mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
        hidden = hidden + mlp(normed, gate, up, down)
    head = tensors["lm_head.weight"]
    if config["vocab_size"] == 125696:
        head = head / head.pow(2).sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
    return rms(hidden, tensors["model.norm.weight"], eps) @ head.T


def chatglm_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner, rows = config["hidden_size"], config["ffn_hidden_size"], config["padded_vocab_size"]
    heads, groups = config["num_attention_heads"], config["multi_query_group_num"]
    fused = (heads + 2 * groups) * config["kv_channels"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (rows, hidden),
        "transformer.encoder.final_layernorm.weight": (hidden,),
        "transformer.output_layer.weight": (rows, hidden),
        "transformer.rotary_pos_emb.inv_freq": (config["kv_channels"] // 4,),
    }
    for layer in range(config["num_layers"]):
        own: dict[str, tuple[int, ...]] = {
            "self_attention.query_key_value.weight": (fused, hidden),
            "self_attention.dense.weight": (hidden, heads * config["kv_channels"]),
            "mlp.dense_h_to_4h.weight": (2 * inner, hidden),
            "mlp.dense_4h_to_h.weight": (hidden, inner),
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
        }
        if config["add_qkv_bias"]:
            own["self_attention.query_key_value.bias"] = (fused,)
        shapes |= {f"transformer.encoder.layers.{layer}.{name}": shape for name, shape in own.items()}
    return shapes


def half_rotated(heads: Tensor, theta: float) -> Tensor:
    """Rotate neighbours in the first half of each head; (B, A, S, D)."""
    width = heads.shape[-1] // 2
    turning, still = heads.split(width, -1)
    cos, sin = (part(angles(heads.shape[-2], width, theta)) for part in (torch.cos, torch.sin))
    even, odd = turning[..., 0::2], turning[..., 1::2]
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)
    return torch.cat([turned, still], -1)


def chatglm_logits(config: dict[str, Any], tensors: Tensors, ids: Tensor) -> Tensor:
    """modeling_chatglm.py of huggingface.co/THUDM/chatglm3-6b and glm-4-9b."""
    eps, heads, width = config["layernorm_epsilon"], config["num_attention_heads"], config["kv_channels"]
    groups, theta = config["multi_query_group_num"], 1e4 * config.get("rope_ratio", 1)
    hidden = tensors["transformer.embedding.word_embeddings.weight"][ids]
    for number in range(config["num_layers"]):
        prefix = f"transformer.encoder.layers.{number}."
        layer = {name.removeprefix(prefix): value for name, value in tensors.items() if prefix in name}
        normed = rms(hidden, layer["input_layernorm.weight"], eps)
        names = (f"self_attention.query_key_value.{kind}" for kind in ("weight", "bias"))
        fused = F.linear(normed, *(layer.get(name) for name in names))  # type: ignore[arg-type]
        parts = fused.split([heads * width, groups * width, groups * width], -1)
        queries, keys, values = (part.unflatten(-1, (-1, width)).transpose(1, 2) for part in parts)
        mixed = attended(half_rotated(queries, theta), half_rotated(keys, theta), values)
        hidden = hidden + mixed @ layer["self_attention.dense.weight"].T
        normed = rms(hidden, layer["post_attention_layernorm.weight"], eps)
        gate, up = layer["mlp.dense_h_to_4h.weight"].chunk(2)
        hidden = hidden + mlp(normed, gate, up, layer["mlp.dense_4h_to_h.weight"])
    normed = rms(hidden, tensors["transformer.encoder.final_layernorm.weight"], eps)
    return normed @ tensors["transformer.output_layer.weight"].T


SHAPES: dict[str, Any] = {
    "internlm2": internlm2_shapes,
    "baichuan": baichuan_shapes,
    "chatglm": chatglm_shapes,
    "qwen": qwen_shapes,
}
LOGITS: dict[str, Any] = {
    "internlm2": internlm2_logits,
    "baichuan": baichuan_logits,
    "chatglm": chatglm_logits,
    "qwen": qwen_logits,
}
