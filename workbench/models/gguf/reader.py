"""LLaMA-architecture GGUF files: their description, their tensors under LLaMA's names, their tokenizer."""

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

# llama.cpp's names (gguf-py, constants.py) and transformers'. A bias or an expert is in neither, so a file
# that holds one is refused instead of being read without it.
WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER = {
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}
ROPE_FACTORS = "rope_freqs.weight"
# Keys that change the numbers and that no LLaMA configuration can say, unless they hold this.
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
# What Llama 3.1 and its successors were scaled with (https://arxiv.org/abs/2407.21783; their config.json).
# A GGUF file keeps only the factors that follow from it, so they are recomputed and compared; ours say the
# numbers, too, where llama.cpp doesn't look.
OWN_ROPE = "open_llama.rope."
LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of the file, read and dequantized to float32 when it is asked for."""

    stored: Any
    shape: tuple[int, ...]
    num_heads: int
    """Heads whose rows llama.cpp has interleaved; 0: none."""
    dtype: torch.dtype = torch.float32

    def __getitem__(self, index: Any, /) -> Tensor:
        """The tensor, for `...`."""
        values = torch.from_numpy(dequantize(self.stored.data, self.stored.tensor_type).copy())
        if not self.num_heads:
            return values
        # llama.cpp rotates neighbouring pairs, transformers halves: rows go from (D/2, 2) back to (2, D/2).
        return values.view(self.num_heads, -1, 2, self.shape[-1]).transpose(1, 2).reshape(self.shape)


def read_fields(file: Path) -> dict[str, Any]:
    """The file's metadata; of arrays only the length, apart from numbers' arrays.

    Raises:
        CheckpointError: the file is damaged or no GGUF file.
    """
    fields = {}
    for name, field in _reader(file).fields.items():
        long = field.types[0] == GGUFValueType.ARRAY and field.types[-1] == GGUFValueType.STRING
        fields[name] = len(field.data) if long else field.contents()
    return fields


def read_config(file: Path) -> dict[str, Any]:
    """The file's description in the words of LlamaConfig.

    Raises:
        CheckpointError: another architecture, or a key that LLaMA can't express.
    """
    fields = read_fields(file)
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise CheckpointError(f"{file}: a GGUF file of architecture {architecture!r} (only 'llama' is read)")
    if fields.get("split.count", 1) > 1:
        raise CheckpointError(f"{file}: one of {fields['split.count']} parts (llama-gguf-split --merge)")
    own = {key.removeprefix("llama."): value for key, value in fields.items() if key.startswith("llama.")}
    _check_neutral(file, own, NEUTRAL)
    shapes = {tensor.name: _shape(tensor) for tensor in _reader(file).tensors}
    try:
        heads, width = own["attention.head_count"], own["embedding_length"]
        config = {
            "vocab_size": shapes["token_embd.weight"][0],
            "hidden_size": width,
            "intermediate_size": own["feed_forward_length"],
            "num_hidden_layers": own["block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": own.get("attention.head_count_kv", heads),
            "rms_norm_eps": own["attention.layer_norm_rms_epsilon"],
            "max_position_embeddings": own["context_length"],
        }
    except KeyError as error:
        raise CheckpointError(f"{file}: the metadata lacks {error.args[0]!r}") from error
    _check_neutral(file, own, dict.fromkeys(WIDTHS, width // heads))
    tokens = {"bos": "bos", "eos": "eos", "pad": "padding"}
    ids = {f"{name}_token_id": fields.get(f"tokenizer.ggml.{key}_token_id") for name, key in tokens.items()}
    rope = {"rope_parameters": _rope(file, own, config), "tie_word_embeddings": "output.weight" not in shapes}
    return {"model_type": "llama", "hidden_act": "silu", **config, **ids, **rope}


def _check_neutral(file: Path, own: dict[str, Any], neutral: dict[str, Any]) -> None:
    """Raise CheckpointError for a key that has another value than the one that changes nothing."""
    for key, value in neutral.items():
        if own.get(key, value) not in (value, None):
            said = f"llama.{key}={own[key]!r} (only {value!r})"
            raise CheckpointError(f"{file}: Open-Llama can't express {said}")


def read_tensors(file: Path) -> dict[str, GgufTensor]:
    """The file's tensors under LLaMA's names; nothing is dequantized yet.

    Raises:
        CheckpointError: a tensor that LLaMA doesn't have.
    """
    config = read_config(file)
    heads = {"attn_q.weight": config["num_attention_heads"], "attn_k.weight": config["num_key_value_heads"]}
    tensors = {}
    for stored in _reader(file).tensors:
        if stored.name == ROPE_FACTORS:
            continue  # in the configuration, as rope_parameters
        block, _, part = stored.name.removeprefix("blk.").partition(".")
        name = WHOLE.get(stored.name) or (LAYER.get(part) and f"model.layers.{block}.{LAYER[part]}")
        if not name:
            raise CheckpointError(f"{file}: Open-Llama has no place for the tensor {stored.name}")
        tensors[name] = GgufTensor(stored, _shape(stored), heads.get(part, 0))
    return tensors


def read_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """The tokenizer within the file.

    Raises:
        CheckpointError: there is none.
    """
    fields = read_fields(file)
    size = fields.get("tokenizer.ggml.tokens")
    if size is None:
        raise CheckpointError(f"{file}: holds no tokenizer (model.tokenizer names another)")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(file.parent, gguf_file=file.name)
    if fields.get("tokenizer.ggml.model") == "gpt2":
        _split_as_named(tokenizer, fields.get("tokenizer.ggml.pre", "default"), file)
    if len(tokenizer) == size:
        return cast(PreTrainedTokenizerFast, tokenizer)
    # transformers 5.23 adds GPT-2's <|endoftext|> to every byte-pair vocabulary that names no unknown token,
    # Llama 3's for one; it would lie beyond the embedding.
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < size]
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        chat_template=tokenizer.chat_template,
        **tokenizer.special_tokens_map,
    )


def _split_as_named(tokenizer: PreTrainedTokenizerFast, name: str, file: Path) -> None:
    """Split text as `tokenizer.ggml.pre` names it, where transformers 5.23 splits it as GPT-2 does."""
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
    """The parsed file; parsing a vocabulary takes seconds, so the last one is kept."""
    return _parsed(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _parsed(file: Path, modified: int) -> GGUFReader:
    check_header(file)
    try:
        return GGUFReader(file)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: truncated, damaged or no GGUF file ({error})") from error


def _shape(tensor: Any) -> tuple[int, ...]:
    """Shape in torch's order; GGUF lists the fastest dimension first."""
    return tuple(int(size) for size in reversed(tensor.shape))


def _rope(file: Path, own: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """`rope_parameters` from the metadata and, for Llama 3, from the tensor of factors.

    Raises:
        CheckpointError: a kind of scaling, or factors, that transformers has no name for.
    """
    rope: dict[str, Any] = {"rope_theta": own.get("rope.freq_base", 10000.0)}
    factors = next((tensor for tensor in _reader(file).tensors if tensor.name == ROPE_FACTORS), None)
    if factors is not None:
        return rope | _llama3_rope(file, torch.from_numpy(factors.data.copy()), rope["rope_theta"])
    kind = own.get("rope.scaling.type", "linear" if "rope.scale_linear" in own else "none")
    factor = own.get("rope.scaling.factor", own.get("rope.scale_linear", 1.0))
    if kind != "yarn":  # llama.cpp multiplies by it with any kind
        _check_neutral(file, own, {"rope.scaling.attn_factor": 1.0})
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return rope | {"rope_type": "default"}
    if kind == "linear":
        return rope | {"rope_type": "linear", "factor": factor}
    if kind != "yarn":
        raise CheckpointError(f"{file}: can't express llama.rope.scaling.type={kind!r} (linear, yarn)")
    length = own.get("rope.scaling.original_context_length", config["max_position_embeddings"])
    yarn = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": length}
    if (attention := own.get("rope.scaling.attn_factor", 1.0)) != 1.0:  # on top of factor's own
        yarn["attention_factor"] = attention * (0.1 * math.log(factor) + 1.0)
    betas = {name: own.get(f"rope.scaling.yarn_{name}") for name in ("beta_fast", "beta_slow")}
    return rope | yarn | {name: value for name, value in betas.items() if value is not None}


def _llama3_rope(file: Path, factors: Tensor, theta: float) -> dict[str, Any]:
    """The llama3 scaling whose divisors of the frequencies (D / 2,) are `factors`.

    Source of the formula: transformers, modeling_rope_utils.py, _compute_llama3_parameters.

    Raises:
        CheckpointError: no factor gives these.
    """
    fields = read_fields(file)
    usual = {"factor": round(float(factors.max()), 4), **LLAMA3_ROPE}
    said = {name: type(value)(fields.get(f"{OWN_ROPE}{name}", value)) for name, value in usual.items()}
    factor, low, high, length = said.values()
    exponents = torch.arange(len(factors), dtype=torch.float64) / len(factors)
    wavelengths = 2 * math.pi * theta**exponents
    smooth = ((length / wavelengths - low) / (high - low)).clamp(0, 1)
    if not torch.allclose(1 / ((1 - smooth) / factor + smooth), factors.double(), rtol=1e-4):
        raise CheckpointError(f"{file}: {ROPE_FACTORS} holds rotary factors that are not those of Llama 3")
    return {"rope_type": "llama3", **said}
