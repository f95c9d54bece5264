"""Qwen 1: shapes of its tensors, and what modeling_qwen.py of huggingface.co/Qwen/Qwen-7B computes."""

from typing import Any

import torch.nn.functional as F
from published_parts import attended, mlp, rms, rotated
from torch import Tensor

QWEN_CONFIG: dict[str, Any] = dict(
    model_type="qwen",
    vocab_size=96,
    hidden_size=64,
    intermediate_size=192,
    num_hidden_layers=2,
    num_attention_heads=4,
    kv_channels=16,
    layer_norm_epsilon=1e-5,
    seq_length=64,
    max_position_embeddings=256,
    rotary_emb_base=1e4,
    rotary_pct=1.0,
    no_bias=True,
    scale_attn_weights=True,
    use_dynamic_ntk=True,
    use_logn_attn=True,
    attn_dropout_prob=0.0,
    emb_dropout_prob=0.0,
    tie_word_embeddings=False,
)


def qwen_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner, rows = config["hidden_size"], config["intermediate_size"] // 2, config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (rows, hidden),
        "transformer.ln_f.weight": (hidden,),
        "lm_head.weight": (rows, hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        own: dict[str, tuple[int, ...]] = {
            "attn.c_attn.weight": (3 * hidden, hidden),
            "attn.c_attn.bias": (3 * hidden,),
            "attn.c_proj.weight": (hidden, hidden),
            "mlp.w1.weight": (inner, hidden),
            "mlp.w2.weight": (inner, hidden),
            "mlp.c_proj.weight": (hidden, inner),
            "ln_1.weight": (hidden,),
            "ln_2.weight": (hidden,),
        }
        shapes |= {f"transformer.h.{layer}.{name}": shape for name, shape in own.items()}
    return shapes


def qwen_logits(config: dict[str, Any], tensors: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Logits of texts of up to `seq_length` tokens: use_dynamic_ntk and use_logn_attn are for longer ones."""
    assert ids.shape[1] <= config["seq_length"]
    eps, heads, theta = config["layer_norm_epsilon"], config["num_attention_heads"], config["rotary_emb_base"]
    hidden = tensors["transformer.wte.weight"][ids]
    for number in range(config["num_hidden_layers"]):
        prefix = f"transformer.h.{number}."
        layer = {name.removeprefix(prefix): value for name, value in tensors.items() if prefix in name}
        normed = rms(hidden, layer["ln_1.weight"], eps)
        fused = F.linear(normed, layer["attn.c_attn.weight"], layer["attn.c_attn.bias"])
        queries, keys, values = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in fused.split(config["hidden_size"], 2)
        )
        mixed = attended(rotated(queries, theta), rotated(keys, theta), values)
        hidden = hidden + mixed @ layer["attn.c_proj.weight"].T
        normed = rms(hidden, layer["ln_2.weight"], eps)
        up, gate = layer["mlp.w1.weight"], layer["mlp.w2.weight"]
        hidden = hidden + mlp(normed, gate, up, layer["mlp.c_proj.weight"])
    return rms(hidden, tensors["transformer.ln_f.weight"], eps) @ tensors["lm_head.weight"].T
