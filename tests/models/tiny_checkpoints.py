"""Tiny real checkpoints on disk: LLaMA folders, GGUF files, tokenizers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, TokenType
from gguf.quants import quantize
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig

VOCABULARY = 96
IDS = torch.tensor([[3, 5, 8, 13, 21, 34, 55, 2, 90, 41], [7, 7, 11, 18, 29, 47, 76, 6, 1, 64]])
PLAIN = QuantizationConfig()
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    initializer_range=0.15,
)
LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
    rope_theta=500000.0,
)
ROPES = {
    "default": dict(rope_type="default", rope_theta=5000.0),
    "linear": dict(rope_type="linear", factor=2.0, rope_theta=10000.0),
    "dynamic": dict(rope_type="dynamic", factor=2.0, rope_theta=10000.0),
    "yarn": dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, rope_theta=10000.0),
    "longrope": dict(
        rope_type="longrope",
        factor=4.0,
        original_max_position_embeddings=16,
        short_factor=[1.0] * 8,
        long_factor=[1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0, 4.0],
        rope_theta=10000.0,
    ),
    "llama3": LLAMA3,
}


def at(path: Path, **fields: Any) -> ModelConfig:
    return ModelConfig(path=str(path), **fields)


def llama(**fields: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**(SIZES | fields))).eval()


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    return model(ids).logits.float()


def words_tokenizer(size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Words w3, w4, ... with LLaMA's three special tokens and no padding token."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special = dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def write_gguf(model: LlamaForCausalLM, file: Path, extra: dict[str, Any] | None = None) -> Path:
    """The model as llama.cpp's converter writes it: Q8_0 matrices, float32 norms, interleaved q and k rows.

    Args:
        model: What to write.
        file: Where.
        extra: Further metadata under `llama.`, or tensors by full name.
    """
    config = model.config
    writer = GGUFWriter(str(file), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if "rope.dimension_count" not in (extra or {}):
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    write_gguf_vocabulary(writer, config.vocab_size)
    for name, value in (extra or {}).items():
        if isinstance(value, np.ndarray):
            writer.add_tensor(name, value)
        else:
            writer.add_key_value(f"llama.{name}", value, gguf_type(value))
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:
                values = values.view(heads, 2, -1, config.hidden_size).transpose(1, 2).reshape(values.shape)
        kind = GGMLQuantizationType.Q8_0 if values.dim() == 2 else GGMLQuantizationType.F32
        writer.add_tensor(gguf_name(name), quantize(values.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def write_gguf_vocabulary(writer: GGUFWriter, size: int) -> None:
    """A byte-pair vocabulary of three special tokens, letters, one merge, and fillers."""
    letters = [chr(code) for code in range(ord("!"), ord("!") + size - 5)]
    tokens = ["<unk>", "<s>", "</s>", *letters, "Ġ", "th"]
    kinds = [TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (size - 3)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def gguf_type(value: Any) -> Any:
    kind = GGUFValueType
    return {bool: kind.BOOL, int: kind.UINT32, float: kind.FLOAT32, str: kind.STRING}[type(value)]


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor of LlamaForCausalLM."""
    whole = {
        "model.embed_tokens.weight": "token_embd",
        "model.norm.weight": "output_norm",
        "lm_head.weight": "output",
    }
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    if name in whole:
        return f"{whole[name]}.weight"
    layer, part = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    return f"blk.{layer}.{parts[part]}.weight"
