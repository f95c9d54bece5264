"""Checkpoints on disk -> the configuration and the tensors of an Open-Llama, checked against each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import GenerationConfig, LlamaConfig, MistralConfig, PreTrainedConfig

from workbench.contexts import quiet_transformers
from workbench.errors import CheckpointError
from workbench.models.checkpoints import meta_llama
from workbench.models.checkpoints.announced_sizes import check_sizes
from workbench.models.checkpoints.foreign_code import check_kernels
from workbench.models.checkpoints.generation_config import settle_generation
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD, RECORD, unfold
from workbench.models.checkpoints.state_dict import read_folder, read_json_object
from workbench.models.checkpoints.supported_models import check_not_quantized, way_to_native
from workbench.models.gguf import reader
from workbench.models.open_llama.configuration_open_llama import (
    LLAMA_SWITCHES,
    OpenLlamaConfig,
    inexpressible,
)
from workbench.models.stored import Stored

# Mistral without its sliding window is LLaMA under another name.
LLAMA_ARCHITECTURE: dict[str, type[PreTrainedConfig]] = {"llama": LlamaConfig, "mistral": MistralConfig}
KEPT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "rope_parameters",
    "dtype",
    "id2label",
    "label2id",
    "problem_type",
)
CALLS = ("return_dict", "output_attentions", "output_hidden_states")
"""What a configuration may say about the form of a call's answer, which is the caller's own affair."""
SCORE = "score.weight"
SWITCHED_OFF = "stable and shared embedding off, dropouts 0"
BROKEN = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    StrictDataclassError,
)
"""What transformers and torch raise at values that no model can have."""


@dataclass
class Checkpoint:
    """A model as it lies on disk, in the words of Open-Llama; its tensors are not read yet."""

    path: Path
    origin: str
    """What it was: Open-Llama, LLaMA, ..."""
    config: OpenLlamaConfig
    note: str = ""
    """What was switched on the way."""
    record: dict[str, Any] | None = None
    """How a LLaMA folder was made from an Open-Llama; see folding.py."""
    tensors: Mapping[str, Stored] = field(default_factory=dict)
    generation: GenerationConfig | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The checkpoint's own floating point type; bfloat16 for GGUF, whose blocks hold fewer bits."""
        if self.path.is_file():
            return torch.bfloat16
        if isinstance(self.config.dtype, torch.dtype):
            return self.config.dtype
        return self.tensors[EMBEDDING].dtype if EMBEDDING in self.tensors else torch.float32


def read(path: Path) -> Checkpoint:
    """The checkpoint at `path`, a folder or a `.gguf` file.

    Raises:
        CheckpointError: it is damaged, or not of this family.
    """
    checkpoint = describe(path)
    checkpoint.tensors = _renamed(_read_tensors(path))
    if checkpoint.record is not None:
        checkpoint = _unfolded(checkpoint, checkpoint.record)
    if (path / "generation_config.json").is_file():
        try:
            checkpoint.generation = GenerationConfig.from_pretrained(path)
            note = settle_generation(checkpoint.generation)
        except (*BROKEN, OSError) as error:
            raise broken(path / "generation_config.json", error) from error
        checkpoint.note = "; ".join(filter(None, (checkpoint.note, note)))
    return checkpoint


def describe(path: Path) -> Checkpoint:
    """The checkpoint at `path` without its tensors.

    Raises:
        CheckpointError: it is damaged, or not of this family.
    """
    source = description_file(path)
    try:
        with quiet_transformers():
            return _described(path, source)
    except BROKEN as error:
        raise broken(source, error) from error


def _described(path: Path, source: Path) -> Checkpoint:
    """The checkpoint as its description says; see `describe`."""
    stored, origin = _read_description(path)
    check_sizes(stored, source)
    check_kernels(stored, source)
    kind = stored.get("model_type")
    if stored.get("pad_token_id") == -1:  # LLaMA's first checkpoints say so that they have none
        stored["pad_token_id"] = None
    check_not_quantized(stored, source)
    if kind not in (OpenLlamaConfig.model_type, *LLAMA_ARCHITECTURE):
        raise CheckpointError(f"{source}: model_type {kind!r} is no LLaMA ({way_to_native(str(kind))})")
    if stored.pop("quantization_config", None):
        raise CheckpointError(
            f"{source}: quantization_config: Open-Llama can't take weights quantized by bitsandbytes "
            "(take the unquantized model; quantization=nf4 or int8 quantizes it here)"
        )
    for name in CALLS:
        stored.pop(name, None)
    if kind == OpenLlamaConfig.model_type:
        found = Checkpoint(path, "Open-Llama", OpenLlamaConfig.from_dict(stored))
    else:
        llama = LLAMA_ARCHITECTURE[str(kind)].from_dict(stored)
        found = Checkpoint(path, origin, _from_llama(source, llama), SWITCHED_OFF, stored.get(RECORD))
    dtype = found.config.dtype
    if isinstance(dtype, torch.dtype) and not dtype.is_floating_point:
        raise CheckpointError(f"{source}: dtype {str(dtype)!r} is no floating point type")
    return found


def description_file(path: Path) -> Path:
    """The file that describes the model."""
    if path.is_file():
        return path
    return path / (meta_llama.PARAMETERS if meta_llama.is_meta(path) else "config.json")


def _read_description(path: Path) -> tuple[dict[str, Any], str]:
    """What the description says in transformers' words, and what a LLaMA came as."""
    if path.is_file():
        return reader.read_config(path), "LLaMA, GGUF"
    if meta_llama.is_meta(path):
        return meta_llama.read_config(path), "LLaMA, Meta's files"
    return read_json_object(path / "config.json"), "LLaMA"


def _read_tensors(path: Path) -> Mapping[str, Stored]:
    """The tensors as they are stored."""
    if path.is_file():
        return reader.read_tensors(path)
    return meta_llama.read_tensors(path) if meta_llama.is_meta(path) else read_folder(path)


def _unfolded(checkpoint: Checkpoint, record: dict[str, Any]) -> Checkpoint:
    """The Open-Llama that a LLaMA folder was made from, as far as its tensors are still determined.

    Raises:
        CheckpointError: the record in config.json is damaged.
    """
    try:
        config, tensors, note = unfold(checkpoint.config, record, checkpoint.tensors)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint.path}/config.json: the record {RECORD!r} is damaged") from error
    return replace(checkpoint, config=config, tensors=tensors, note=note or "switches as recorded")


def broken(file: Path, error: Exception) -> CheckpointError:
    """What is wrong with a file of the checkpoint, in one line."""
    said = str(error.args[0]) if isinstance(error, KeyError) else str(error) or type(error).__name__
    if isinstance(error, ZeroDivisionError):
        said = f"num_attention_heads, or another number that divides, is 0 ({said})"
    elif isinstance(error, TypeError | AttributeError | IndexError):
        said = f"a value is of the wrong kind ({said})"
    elif said.isidentifier():
        said = f"{said!r} is missing or unknown"
    return CheckpointError(f"{file}: {' '.join(said.split()).removeprefix('config.json: ').rstrip('.')}")


def _from_llama(source: Path, llama: PreTrainedConfig) -> OpenLlamaConfig:
    """The Open-Llama configuration that computes exactly what this LLaMA does: its four switches off.

    Raises:
        CheckpointError: a field that Open-Llama can't express.
    """
    if reason := inexpressible(llama):
        raise CheckpointError(f"{source}: {reason}; model.architecture=native takes what transformers can")
    fields: dict[str, Any] = {name: getattr(llama, name) for name in KEPT}
    fields |= {**LLAMA_SWITCHES, "attention_dropout_prob": llama.attention_dropout}
    return OpenLlamaConfig(**fields)


def _renamed(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors under the names of a model with a head, without the rotary tables of 4.31's files."""
    prefix = "" if any(name.startswith("model.") for name in tensors) else "model."
    heads = (HEAD, SCORE)
    return {
        name if name in heads else prefix + name: tensor
        for name, tensor in tensors.items()
        if not name.endswith("rotary_emb.inv_freq")
    }
