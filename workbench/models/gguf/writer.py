"""LLaMA weights and their tokenizer as one GGUF file for llama.cpp, written a tensor at a time."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, RopeScalingType
from gguf.quants import quant_shape_to_byte_shape, quantize
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from workbench.config.export import GgufType
from workbench.errors import CheckpointError
from workbench.models.gguf.reader import LAYER, LLAMA3_ROPE, OWN_ROPE, ROPE_FACTORS, WHOLE
from workbench.models.gguf.tokenizer_metadata import describe_tokenizer
from workbench.models.stored import Stored

BLOCK = 32
"""Weights that share a scale, in every quantized type that is written here."""
FLOAT16_MAX = 65504.0

FILE_TYPES = {
    GgufType.f32: LlamaFileType.ALL_F32,
    GgufType.f16: LlamaFileType.MOSTLY_F16,
    GgufType.bf16: LlamaFileType.MOSTLY_BF16,
    GgufType.q8_0: LlamaFileType.MOSTLY_Q8_0,
    GgufType.q5_1: LlamaFileType.MOSTLY_Q5_1,
    GgufType.q5_0: LlamaFileType.MOSTLY_Q5_0,
    GgufType.q4_1: LlamaFileType.MOSTLY_Q4_1,
    GgufType.q4_0: LlamaFileType.MOSTLY_Q4_0,
}
MARK = "open_llama_workbench.export"
"""Key of a file's metadata: an export, which a later one may replace."""
NAMES = {ours: theirs for theirs, ours in WHOLE.items()}
LAYER_NAMES = {ours: theirs for theirs, ours in LAYER.items()}


def write_gguf(
    file: Path,
    config: LlamaConfig,
    tensors: Mapping[str, Stored],
    tokenizer: PreTrainedTokenizerFast,
    kind: GgufType,
    ends: Sequence[int] = (),
) -> int:
    """Write the file; the size of its tensors in bytes.

    Args:
        file: Created; the caller sees to it that it is whole or not there.
        config: Of the model.
        tensors: Under LLaMA's names.
        tokenizer: Of the model.
        kind: How matrices are held. Embedding and head keep 8 bits with the 4 and 5-bit types.
        ends: Tokens that end an answer; the first besides the end of sequence is the end of a turn.

    Raises:
        CheckpointError: what the format, or llama.cpp's LLaMA, has no place for; weights beyond float16.
    """
    writer = GGUFWriter(str(file), "llama")
    _describe(writer, config)
    writer.add_bool(MARK, True)
    writer.add_file_type(FILE_TYPES[kind])
    describe_tokenizer(writer, tokenizer, tensors["model.embed_tokens.weight"].shape[0])
    if turn_ends := [end for end in ends if end != tokenizer.eos_token_id]:
        writer.add_eot_token_id(turn_ends[0])
    stored: list[tuple[str, Stored, GGMLQuantizationType, int]] = []
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in {**_rope_factors(config), **tensors}.items():
        numbers = _number_type(name, tensor.shape, kind)
        shape = quant_shape_to_byte_shape(tensor.shape, numbers)
        writer.add_tensor_info(_gguf_name(name), shape, np.dtype(np.uint8), math.prod(shape), numbers)
        stored.append((name, tensor, numbers, heads.get(name.split(".")[-2], 0) or 0))
    size = 0
    with closing(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor, numbers, count in stored:
            weight = tensor[...].float()
            if numbers is GGMLQuantizationType.F16 and weight.abs().max() > FLOAT16_MAX:
                raise CheckpointError(
                    f"export.gguf_type: f16 ends at {FLOAT16_MAX:.0f}, {name} holds more (bf16 and f32 do)"
                )
            data = quantize(_interleaved(weight, count).numpy(), numbers)
            writer.write_tensor_data(data)
            size += data.nbytes
    return size


def _gguf_name(name: str) -> str:
    """llama.cpp's name of one of LLaMA's tensors."""
    if name == ROPE_FACTORS:
        return name
    if name in NAMES:
        return NAMES[name]
    layer, _, part = name.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{LAYER_NAMES[part]}"


def _number_type(name: str, shape: tuple[int, ...], kind: GgufType) -> GGMLQuantizationType:
    """How a tensor is held: vectors whole, rows that no block divides in 16 bits."""
    wanted = GGMLQuantizationType[kind.value.upper()]
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    if kind in (GgufType.f32, GgufType.f16, GgufType.bf16):
        return wanted
    if shape[-1] % BLOCK:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType.Q8_0 if name in NAMES else wanted


def _interleaved(weight: Tensor, num_heads: int) -> Tensor:
    """The rows of q and k as llama.cpp rotates them, in neighbouring pairs; any other tensor as it is."""
    if not num_heads:
        return weight.contiguous()
    halves = weight.view(num_heads, 2, -1, weight.shape[-1])
    return halves.transpose(1, 2).reshape(weight.shape)


def _describe(writer: GGUFWriter, config: LlamaConfig) -> None:
    """The metadata of the architecture.

    Raises:
        CheckpointError: an activation or a rotary embedding that llama.cpp's LLaMA doesn't have.
    """
    if config.hidden_act != "silu":
        raise CheckpointError(f"export.format: gguf can't express hidden_act={config.hidden_act!r} (silu)")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    rope = dict(config.rope_parameters or {})
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "llama3":
        for name in ("factor", *LLAMA3_ROPE):  # llama.cpp needs only the divisors that follow from them
            writer.add_float64(f"{OWN_ROPE}{name}", rope[name])
    elif kind == "yarn":
        _describe_yarn(writer, rope, config.max_position_embeddings)
    elif kind != "default":
        raise CheckpointError(f"export.format: gguf can't express the rope type {kind!r}")


def _describe_yarn(writer: GGUFWriter, rope: dict[str, Any], max_length: int) -> None:
    """The metadata of YaRN (https://arxiv.org/abs/2309.00071).

    Raises:
        CheckpointError: one of transformers' further parameters is set.
    """
    said = {"rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"}
    said |= {"attention_factor", "beta_fast", "beta_slow"}
    if unsaid := sorted(name for name, value in rope.items() if name not in said and value is not None):
        raise CheckpointError(f"export.format: gguf can't express yarn's {unsaid[0]}={rope[unsaid[0]]!r}")
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope.get("original_max_position_embeddings") or max_length)
    if (attention := rope.get("attention_factor")) is not None:
        # llama.cpp multiplies with the factor that follows from the scaling, transformers replaces it.
        writer.add_rope_scaling_attn_factors(attention / (0.1 * math.log(rope["factor"]) + 1.0))
    if rope.get("beta_fast") is not None:
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
    if rope.get("beta_slow") is not None:
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])


def _rope_factors(config: LlamaConfig) -> dict[str, Stored]:
    """What Llama 3 divides its frequencies by, which llama.cpp reads from a tensor; empty for other types."""
    rope: dict[str, Any] = dict(config.rope_parameters or {})
    if rope["rope_type"] != "llama3":
        return {}
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = rope["rope_theta"] ** -(torch.arange(len(scaled), dtype=torch.float32) / len(scaled))
    return {ROPE_FACTORS: plain / scaled}
