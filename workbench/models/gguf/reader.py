"""Reads GGUF files of LLaMA, Qwen2 and Qwen3: configuration, tensors and tokenizer."""

import json
import logging
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from gguf import GGUFReader, GGUFValueType, dequantize
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from workbench.errors import CheckpointError
from workbench.models.gguf.header import check_header
from workbench.models.gguf.tokenizer_metadata import DIGIT_BY_DIGIT
from workbench.shown import clean

log = logging.getLogger("workbench")

ARCHITECTURES = ("llama", "qwen2", "qwen3")
# llama.cpp's names (gguf-py, constants.py) -> transformers'. Experts are in neither table, so a file with one
# is refused.
MODEL_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_MODULES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
ROPE_FACTORS = "rope_freqs.weight"
# Key that changes the computation and has no field in config.json -> the value that has no effect.
NEUTRAL = {
    "expert_count": 0,
    "attention.sliding_window": 0,
    "attention.causal": True,
    "attention.scale": 0.0,
    "embedding_scale": 0.0,
    "residual_scale": 0.0,
    "logit_scale": 0.0,
    "use_parallel_residual": False,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
    "attention.clamp_kqv": 0.0,
    "attention.max_alibi_bias": 0.0,
    "attention.temperature_scale": 0.0,
}
WIDTHS = ("attention.key_length", "attention.value_length", "rope.dimension_count")
# Rope scaling of Llama 3.1 and later (https://arxiv.org/abs/2407.21783; their config.json). A GGUF file has
# only the factors that follow from these numbers, so the factors are recomputed and compared. Files written
# by this project also have the numbers, under keys that llama.cpp ignores.
OWN_ROPE = "open_llama.rope."
LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@dataclass(frozen=True)
class GgufTensor:
    """Tensor of a GGUF file; each indexing reads it and dequantizes it to float32."""

    stored: Any
    shape: tuple[int, ...]
    num_heads: int
    """Number of heads whose rows llama.cpp interleaves; 0 if the rows aren't interleaved."""
    dtype: torch.dtype = torch.float32

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return a new tensor with the rows in transformers' order; the only index is `...`."""
        values = torch.from_numpy(dequantize(self.stored.data, self.stored.tensor_type).copy())
        if not self.num_heads:
            return values
        # llama.cpp rotates neighbouring pairs, transformers halves: rows are permuted back to (2, D/2).
        return values.view(self.num_heads, -1, 2, *self.shape[1:]).transpose(1, 2).reshape(self.shape)


def read_fields(file: Path) -> dict[str, Any]:
    """Return key -> value of the file's metadata; for an array of strings, key -> number of strings.

    Raises:
        CheckpointError: The file is damaged or not a GGUF file.
    """
    fields = {}
    for name, field in _reader(file).fields.items():
        is_text_array = field.types[0] == GGUFValueType.ARRAY and field.types[-1] == GGUFValueType.STRING
        fields[name] = len(field.data) if is_text_array else field.contents()
    return fields


def read_config(file: Path) -> dict[str, Any]:
    """Convert the file's metadata to the fields of a config.json of LLaMA, Qwen2 or Qwen3.

    Raises:
        CheckpointError: The file is damaged, has another architecture, or a key is missing or not supported.
    """
    fields = read_fields(file)
    architecture = fields.get("general.architecture")
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise CheckpointError(f"{file}: the architecture {architecture!r} is not supported (known: {known})")
    if fields.get("split.count", 1) > 1:
        raise CheckpointError(
            f"{file}: one of {fields['split.count']} parts (join them with llama-gguf-split --merge)"
        )
    prefix = f"{architecture}."
    llama_keys = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    _check_neutral(file, llama_keys, NEUTRAL)
    shapes = {tensor.name: _shape(tensor) for tensor in _reader(file).tensors}
    try:
        heads, width = llama_keys["attention.head_count"], llama_keys["embedding_length"]
        config = {
            "vocab_size": shapes["token_embd.weight"][0],
            "hidden_size": width,
            "intermediate_size": llama_keys["feed_forward_length"],
            "num_hidden_layers": llama_keys["block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": llama_keys.get("attention.head_count_kv", heads),
            "head_dim": llama_keys.get("attention.key_length") or width // heads,
            "rms_norm_eps": llama_keys["attention.layer_norm_rms_epsilon"],
            "max_position_embeddings": llama_keys["context_length"],
        }
    except KeyError as error:
        raise CheckpointError(f"{file}: {error.args[0]!r} is missing in the metadata") from error
    _check_neutral(file, llama_keys, dict.fromkeys(WIDTHS, config["head_dim"]))
    tokens = {"bos": "bos", "eos": "eos", "pad": "padding"}
    ids = {f"{name}_token_id": fields.get(f"tokenizer.ggml.{key}_token_id") for name, key in tokens.items()}
    described = {
        "model_type": architecture,
        "hidden_act": "silu",
        "rope_parameters": _rope(file, llama_keys, config),
        "tie_word_embeddings": "output.weight" not in shapes,
    }
    biases = {"attention_bias": "blk.0.attn_output.bias", "mlp_bias": "blk.0.ffn_up.bias"}
    present = {field: True for field, tensor in biases.items() if tensor in shapes}
    return {**config, **ids, **described, **present}


def _check_neutral(file: Path, llama_keys: dict[str, Any], neutral: dict[str, Any]) -> None:
    """Raise CheckpointError unless each key is absent or has its value in `neutral`, which has no effect."""
    for key, value in neutral.items():
        if llama_keys.get(key, value) not in (value, None):
            raise CheckpointError(
                f"{file}: Open-Llama doesn't support {key}={llama_keys[key]!r} (only {value!r})"
            )


def read_tensors(file: Path) -> dict[str, GgufTensor]:
    """Return transformers' name -> tensor in the file; a tensor is dequantized when it is indexed.

    Raises:
        CheckpointError: As in `read_config`, or Open-Llama doesn't have a tensor of the file.
    """
    config = read_config(file)
    sizes = (config["num_attention_heads"], config["num_key_value_heads"])
    heads = interleaved_heads(config["model_type"], *sizes)
    tensors = {}
    for stored in _reader(file).tensors:
        if stored.name == ROPE_FACTORS:
            continue  # in the configuration, as rope_parameters
        block, _, name_in_layer = stored.name.removeprefix("blk.").partition(".")
        theirs, _, kind = name_in_layer.rpartition(".")
        module = LAYER_MODULES.get(theirs, "")
        name = MODEL_TENSORS.get(stored.name) or (module and f"model.layers.{block}.{module}.{kind}")
        if not name:
            raise CheckpointError(f"{file}: Open-Llama has no tensor {stored.name}")
        tensors[name] = GgufTensor(stored, _shape(stored), heads.get(module.rpartition(".")[2], 0))
    return tensors


def interleaved_heads(architecture: str, num_heads: int, num_key_value_heads: int | None) -> dict[str, int]:
    """Return projection -> number of its heads, for the projections whose rows llama.cpp interleaves.

    These are q_proj and k_proj of LLaMA; {} for other architectures.
    """
    if architecture != "llama":
        return {}
    return {"q_proj": num_heads, "k_proj": num_key_value_heads or num_heads}


def read_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """Convert the tokenizer in the file, with special tokens and chat template, to one of transformers.

    Raises:
        CheckpointError: The file is damaged or has no tokenizer.
    """
    fields = read_fields(file)
    size = fields.get("tokenizer.ggml.tokens")
    if size is None:
        raise CheckpointError(f"{file}: has no tokenizer (name one with model.tokenizer)")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(file.parent, gguf_file=file.name)
    if fields.get("tokenizer.ggml.model") == "gpt2":
        _split_as_named(tokenizer, fields.get("tokenizer.ggml.pre", "default"), file)
    if len(tokenizer) == size:
        return cast(PreTrainedTokenizerFast, tokenizer)
    # transformers 5.23 adds GPT-2's <|endoftext|> to every BPE vocabulary without an unknown token, such as
    # Llama 3's; its id would be larger than the embedding.
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < size]
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        chat_template=tokenizer.chat_template,
        **tokenizer.special_tokens_map,
    )


def _split_as_named(tokenizer: PreTrainedTokenizerFast, name: str, file: Path) -> None:
    """Set the pre-tokenizer that `tokenizer.ggml.pre` names, where transformers 5.23 sets GPT-2's."""
    backend = tokenizer.backend_tokenizer
    if name in DIGIT_BY_DIGIT:
        split = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        backend.pre_tokenizer = Sequence(split)
    elif name != "gpt-2" and isinstance(backend.pre_tokenizer, ByteLevel):
        log.warning(
            f"{clean(str(file))}: tokenizer.ggml.pre={clean(repr(name))} is not known, text is split as "
            "GPT-2 splits it (model.tokenizer names the model's own tokenizer)"
        )


def _reader(file: Path) -> GGUFReader:
    """Parse a GGUF file; the last file is cached, since parsing a vocabulary takes seconds."""
    return _parsed(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _parsed(file: Path, modified: int) -> GGUFReader:
    check_header(file)
    try:
        return GGUFReader(file)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: truncated, damaged or not a GGUF file ({error})") from error


def _shape(tensor: Any) -> tuple[int, ...]:
    """Return a tensor's shape in torch's order; GGUF lists the fastest dimension first."""
    return tuple(int(size) for size in reversed(tensor.shape))


def _rope(file: Path, llama_keys: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return config.json's `rope_parameters` from the metadata and, for Llama 3, from the tensor of factors.

    Raises:
        CheckpointError: Transformers doesn't support the scaling type or the factors.
    """
    rope: dict[str, Any] = {"rope_theta": llama_keys.get("rope.freq_base", 10000.0)}
    factors = next((tensor for tensor in _reader(file).tensors if tensor.name == ROPE_FACTORS), None)
    if factors is not None:
        return rope | _llama3_rope(file, torch.from_numpy(factors.data.copy()), rope["rope_theta"])
    kind = llama_keys.get("rope.scaling.type", "linear" if "rope.scale_linear" in llama_keys else "none")
    factor = llama_keys.get("rope.scaling.factor", llama_keys.get("rope.scale_linear", 1.0))
    if kind != "yarn":  # llama.cpp applies the factor with every scaling type
        _check_neutral(file, llama_keys, {"rope.scaling.attn_factor": 1.0})
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return rope | {"rope_type": "default"}
    if kind == "linear":
        return rope | {"rope_type": "linear", "factor": factor}
    if kind != "yarn":
        raise CheckpointError(f"{file}: rope.scaling.type={kind!r} is not supported (linear, yarn)")
    length = llama_keys.get("rope.scaling.original_context_length", config["max_position_embeddings"])
    yarn = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": length}
    if (
        attention := llama_keys.get("rope.scaling.attn_factor", 1.0)
    ) != 1.0:  # in addition to the factor that follows from `factor`
        yarn["attention_factor"] = attention * (0.1 * math.log(factor) + 1.0)
    betas = {name: llama_keys.get(f"rope.scaling.yarn_{name}") for name in ("beta_fast", "beta_slow")}
    return rope | yarn | {name: value for name, value in betas.items() if value is not None}


def _llama3_rope(file: Path, factors: Tensor, theta: float) -> dict[str, Any]:
    """Return the parameters of the llama3 scaling that divides the frequencies (D / 2,) by `factors`.

    Source of the formula: transformers, modeling_rope_utils.py, _compute_llama3_parameters.

    Raises:
        CheckpointError: The factors are not those of a llama3 scaling.
    """
    fields = read_fields(file)
    usual = {"factor": round(float(factors.max()), 4), **LLAMA3_ROPE}
    scaling = {name: type(value)(fields.get(f"{OWN_ROPE}{name}", value)) for name, value in usual.items()}
    factor, low, high, length = scaling.values()
    exponents = torch.arange(len(factors), dtype=torch.float64) / len(factors)
    wavelengths = 2 * math.pi * theta**exponents
    smooth = ((length / wavelengths - low) / (high - low)).clamp(0, 1)
    if not torch.allclose(1 / ((1 - smooth) / factor + smooth), factors.double(), rtol=1e-4):
        raise CheckpointError(f"{file}: the rotary factors of {ROPE_FACTORS} are not those of Llama 3")
    return {"rope_type": "llama3", **scaling}
