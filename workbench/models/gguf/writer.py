"""Writes LLaMA, Qwen2 and Qwen3 models with their tokenizer as GGUF files for llama.cpp."""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, RopeScalingType
from gguf.quants import quant_shape_to_byte_shape, quantize
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerFast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from workbench.config.publishing.export import GgufType
from workbench.errors import CheckpointError
from workbench.models.gguf.reader import (
    LAYER_MODULES,
    LLAMA3_ROPE,
    MODEL_TENSORS,
    OWN_ROPE,
    ROPE_FACTORS,
    interleaved_heads,
)
from workbench.models.gguf.tokenizer_metadata import describe_tokenizer
from workbench.models.stored import Stored

BLOCK = 32
"""Number of weights that share a scale in all quantized types that are written here."""
FLOAT16_MAX = 65504.0
"""Largest finite float16 number."""

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
"""Metadata key that marks a file as an export, which a later export may replace."""
GGUF_NAMES = {ours: theirs for theirs, ours in MODEL_TENSORS.items()}
GGUF_MODULES = {ours: theirs for theirs, ours in LAYER_MODULES.items()}


def check_describable(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, rows: int) -> None:
    """Check that a GGUF file can describe a model and its tokenizer, without writing a file.

    Args:
        config: Configuration of the model.
        tokenizer: Tokenizer of the model.
        rows: Number of rows of the embedding.

    Raises:
        CheckpointError: llama.cpp doesn't support the model or the tokenizer.
    """
    writer = GGUFWriter(os.devnull, config.model_type)
    _write_architecture(writer, config)
    describe_tokenizer(writer, tokenizer, rows)


def write_gguf(
    file: Path,
    config: PreTrainedConfig,
    tensors: Mapping[str, Stored],
    tokenizer: PreTrainedTokenizerFast,
    gguf_type: GgufType,
    ends: Sequence[int] = (),
) -> int:
    """Write a GGUF file, one tensor in memory at a time; return the size in bytes of its tensor data.

    Args:
        file: File to create; after an error it is incomplete, and the caller removes it.
        config: Configuration of the model.
        tensors: Transformers' name -> tensor.
        tokenizer: Tokenizer of the model.
        gguf_type: Type of matrices; vectors are float32. If it has 4 or 5 bits, embedding and head have 8.
        ends: Token ids that end an answer; the first that isn't the end of sequence is the end of turn.

    Raises:
        CheckpointError: llama.cpp doesn't support the model, or weights overflow float16.
    """
    writer = GGUFWriter(str(file), config.model_type)
    _write_architecture(writer, config)
    writer.add_bool(MARK, True)
    writer.add_file_type(FILE_TYPES[gguf_type])
    describe_tokenizer(writer, tokenizer, tensors["model.embed_tokens.weight"].shape[0])
    if turn_ends := [end for end in ends if end != tokenizer.eos_token_id]:
        writer.add_eot_token_id(turn_ends[0])
    stored: list[tuple[str, Stored, GGMLQuantizationType, int]] = []
    heads = interleaved_heads(config.model_type, config.num_attention_heads, config.num_key_value_heads)
    for name, tensor in {**_rope_factors(config), **tensors}.items():
        number_type = _number_type(name, tensor.shape, gguf_type)
        shape = quant_shape_to_byte_shape(tensor.shape, number_type)
        writer.add_tensor_info(gguf_name(name), shape, np.dtype(np.uint8), math.prod(shape), number_type)
        stored.append((name, tensor, number_type, heads.get(name.split(".")[-2], 0)))
    size = 0
    with closing(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor, number_type, count in stored:
            weight = tensor[...].float()
            if number_type is GGMLQuantizationType.F16 and weight.abs().max() > FLOAT16_MAX:
                raise CheckpointError(
                    f"export.gguf_type: {name} has values beyond f16's {FLOAT16_MAX:.0f} (use bf16 or f32)"
                )
            data = quantize(interleaved(weight, count).numpy(), number_type)
            writer.write_tensor_data(data)
            size += data.nbytes
    return size


def gguf_name(name: str) -> str:
    """Return llama.cpp's name for transformers' name of a tensor; KeyError if it has no such tensor."""
    if name == ROPE_FACTORS:
        return name
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    layer, _, name_in_layer = name.removeprefix("model.layers.").partition(".")
    module, _, kind = name_in_layer.rpartition(".")
    return f"blk.{layer}.{GGUF_MODULES[module]}.{kind}"


def _number_type(name: str, shape: tuple[int, ...], gguf_type: GgufType) -> GGMLQuantizationType:
    """Return the type in which to write a tensor: the requested one, with exceptions.

    Vectors are float32. If the requested type has blocks, rows that aren't divisible into blocks are float16,
    and embedding and head have 8 bits.
    """
    requested = GGMLQuantizationType[gguf_type.value.upper()]
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    if gguf_type in (GgufType.f32, GgufType.f16, GgufType.bf16):
        return requested
    if shape[-1] % BLOCK:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType.Q8_0 if name in GGUF_NAMES else requested


def interleaved(weight: Tensor, num_heads: int) -> Tensor:
    """Return the weight of q_proj or k_proj with its rows in llama.cpp's order of rotary pairs.

    With 0 heads the rows stay as they are, for other weights.
    """
    if not num_heads:
        return weight.contiguous()
    halves = weight.view(num_heads, 2, -1, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def _write_architecture(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    """Write the metadata of the architecture: sizes, norm and rotary embedding.

    Raises:
        CheckpointError: llama.cpp lacks the activation, a scale, a bias or the rotary embedding.
    """
    if config.hidden_act != "silu":
        raise CheckpointError(f"export.format: gguf doesn't support hidden_act={config.hidden_act!r} (silu)")
    if config.model_type == "granite":
        raise CheckpointError("export.format: gguf doesn't support scales as in Granite and MiniCPM (llama)")
    if config.model_type == "qwen3" and config.attention_bias:
        raise CheckpointError("export.format: gguf doesn't support Qwen3 with attention_bias (llama)")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if width != config.hidden_size // config.num_attention_heads:
        writer.add_key_length(width)
        writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    rope = dict(config.rope_parameters or {})
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "llama3":
        for name in ("factor", *LLAMA3_ROPE):  # llama.cpp reads the factors that follow from them
            writer.add_float64(f"{OWN_ROPE}{name}", rope[name])
    elif kind == "yarn":
        _write_yarn(writer, rope, config.max_position_embeddings)
    elif kind != "default":
        raise CheckpointError(f"export.format: gguf doesn't support the rope type {kind!r}")


def _write_yarn(writer: GGUFWriter, rope: dict[str, Any], max_length: int) -> None:
    """Write the metadata of YaRN (https://arxiv.org/abs/2309.00071).

    Raises:
        CheckpointError: GGUF doesn't have a parameter that is set.
    """
    supported = {"rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"}
    supported |= {"attention_factor", "beta_fast", "beta_slow"}
    if unsupported := sorted(
        name for name, value in rope.items() if name not in supported and value is not None
    ):
        raise CheckpointError(
            f"export.format: gguf doesn't support yarn's {unsupported[0]}={rope[unsupported[0]]!r}"
        )
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope.get("original_max_position_embeddings") or max_length)
    if (attention := rope.get("attention_factor")) is not None:
        # llama.cpp multiplies this by the factor that follows from the scaling; transformers replaces it.
        writer.add_rope_scaling_attn_factors(attention / (0.1 * math.log(rope["factor"]) + 1.0))
    if rope.get("beta_fast") is not None:
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
    if rope.get("beta_slow") is not None:
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])


def _rope_factors(config: PreTrainedConfig) -> dict[str, Stored]:
    """Return Llama 3's divisors of the rotary frequencies as a named tensor; empty for other rope types."""
    rope: dict[str, Any] = dict(config.rope_parameters or {})
    if rope["rope_type"] != "llama3":
        return {}
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = rope["rope_theta"] ** -(torch.arange(len(scaled), dtype=torch.float32) / len(scaled))
    return {ROPE_FACTORS: plain / scaled}
