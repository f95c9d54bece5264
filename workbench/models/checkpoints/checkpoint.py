"""Reads checkpoints of Open-Llama, LLaMA and its relatives: folders, Meta's files and GGUF files."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, GenerationConfig, PreTrainedConfig

from workbench.contexts import quiet_transformers
from workbench.errors import CheckpointError, OtherArchitectureError
from workbench.models.checkpoints import meta_llama
from workbench.models.checkpoints.announced_sizes import check_sizes
from workbench.models.checkpoints.foreign_code import check_kernels
from workbench.models.checkpoints.generation_config import settle_generation
from workbench.models.checkpoints.ready_quantized import quantized_by, unquantized
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD, RECORD, unfold
from workbench.models.checkpoints.state_dict import read_folder, read_json_object
from workbench.models.checkpoints.supported_models import alternative
from workbench.models.checkpoints.tensor_layouts import with_llama_names
from workbench.models.gguf import reader
from workbench.models.open_llama.configuration_open_llama import OpenLlamaConfig
from workbench.models.open_llama.relatives import NAMES, RELATIVES, open_llama_fields, unsupported
from workbench.models.stored import Stored
from workbench.weights.unpacking.unpack import unpacked
from workbench.weights.unpacking.unpacked_rows import Format

OUTPUT_FIELDS = ("return_dict", "output_attentions", "output_hidden_states")
"""Fields of config.json about the outputs of a call, which the caller decides."""
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
"""Exceptions of transformers and torch for invalid values in a configuration."""


@dataclass
class Checkpoint:
    """Checkpoint on disk, described as the Open-Llama that computes the same."""

    path: Path
    origin: str
    """Source format: Open-Llama, LLaMA, Qwen2, ..."""
    config: OpenLlamaConfig
    model_type: str = OpenLlamaConfig.model_type
    """`model_type` of config.json, which names the tensors in the files."""
    note: str = ""
    """Changes made in the conversion, for the log; empty if there are none."""
    record: dict[str, Any] | None = None
    """Record of how a LLaMA folder was exported from an Open-Llama; see stable_embedding.py."""
    tensors: Mapping[str, Stored] = field(default_factory=dict)
    """Open-Llama's name -> tensor, which is read when it is accessed; empty after `describe`."""
    generation: GenerationConfig | None = None
    """Generation settings; None without generation_config.json, and after `describe`."""
    quantized_by: Format | None = None
    """How the weights in the files are quantized; they are unpacked when they are read. None: unquantized."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype in config.json, else the embedding's, else float32; bfloat16 for a GGUF file."""
        if self.path.is_file():
            return torch.bfloat16
        if isinstance(self.config.dtype, torch.dtype):
            return self.config.dtype
        return self.tensors[EMBEDDING].dtype if EMBEDDING in self.tensors else torch.float32


def read(path: Path) -> Checkpoint:
    """Read the checkpoint at `path`, a folder or a `.gguf` file; its weights are read when they are accessed.

    Raises:
        CheckpointError: The checkpoint is damaged, or has another architecture.
    """
    checkpoint = describe(path)
    return _completed(checkpoint, _read_tensors(path))


def read_with(path: Path, tensors: Mapping[str, Stored]) -> Checkpoint:
    """Read the checkpoint at `path` like `read`, but with the given `tensors`, by their names in the files.

    Raises:
        CheckpointError: The checkpoint is damaged, or has another architecture.
    """
    return _completed(describe(path), tensors)


def _completed(checkpoint: Checkpoint, tensors: Mapping[str, Stored]) -> Checkpoint:
    """Add the tensors, under Open-Llama's names, and the generation settings to a result of `describe`."""
    path = checkpoint.path
    if checkpoint.quantized_by is not None:
        tensors = unpacked(tensors, checkpoint.quantized_by, path)
    checkpoint.tensors = _renamed(with_llama_names(checkpoint.model_type, checkpoint.config, tensors, path))
    if checkpoint.record is not None:
        checkpoint = _restored(checkpoint, checkpoint.record)
    if (path / "generation_config.json").is_file():
        try:
            checkpoint.generation = GenerationConfig.from_pretrained(path)
            note = settle_generation(checkpoint.generation)
        except (*BROKEN, OSError) as error:
            raise broken(path / "generation_config.json", error) from error
        checkpoint.note = "; ".join(filter(None, (checkpoint.note, note)))
    return checkpoint


def describe(path: Path) -> Checkpoint:
    """Read the configuration of the checkpoint at `path`, a folder or a `.gguf` file.

    The result has neither tensors nor generation settings, and the configuration of an exported Open-Llama
    is the LLaMA's (`read` restores it).

    Raises:
        CheckpointError: The checkpoint is damaged, or has another architecture.
    """
    source = description_file(path)
    try:
        with quiet_transformers():
            return _describe(path, source)
    except BROKEN as error:
        raise broken(source, error) from error


def _describe(path: Path, source: Path) -> Checkpoint:
    """Read the checkpoint without its tensors; see `describe`."""
    stored, file_format = _read_description(path)
    check_sizes(stored, source)
    check_kernels(stored, source)
    model_type = stored.get("model_type")
    if stored.get("pad_token_id") == -1:  # in LLaMA's first checkpoints: no padding token
        stored["pad_token_id"] = None
    quantized = quantized_by(stored, source)
    if quantized is not None:
        stored = unquantized(stored)
    if model_type not in (OpenLlamaConfig.model_type, *RELATIVES):
        raise OtherArchitectureError(
            source, f"model_type {model_type!r} is not a LLaMA", f" ({alternative(str(model_type))})"
        )
    for name in OUTPUT_FIELDS:
        stored.pop(name, None)
    if model_type == OpenLlamaConfig.model_type:
        checkpoint = Checkpoint(path, "Open-Llama", OpenLlamaConfig.from_dict(stored))
    else:
        relative = RELATIVES[str(model_type)].from_dict(stored)
        origin, config = NAMES[str(model_type)] + file_format, _from_relative(source, relative)
        checkpoint = Checkpoint(path, origin, config, str(model_type), SWITCHED_OFF, stored.get(RECORD))
    checkpoint.quantized_by = quantized
    dtype = checkpoint.config.dtype
    if isinstance(dtype, torch.dtype) and not dtype.is_floating_point:
        raise CheckpointError(f"{source}: dtype {str(dtype)!r} is not a floating point type")
    return checkpoint


def description_file(path: Path) -> Path:
    """Return the path of the file that describes the model: config.json, params.json or the GGUF file."""
    if path.is_file():
        return path
    return path / (meta_llama.PARAMETERS if meta_llama.is_meta(path) else "config.json")


def _read_description(path: Path) -> tuple[dict[str, Any], str]:
    """Return config.json's fields, converted if the model has another format, and that format's suffix.

    The suffix is `, GGUF`, for example, and empty for a folder with config.json.
    """
    if path.is_file():
        return reader.read_config(path), ", GGUF"
    if meta_llama.is_meta(path):
        return meta_llama.read_config(path), ", Meta's files"
    return read_json_object(path / "config.json"), ""


def _read_tensors(path: Path) -> Mapping[str, Stored]:
    """Return the tensors of a folder or GGUF file, before conversion to an Open-Llama."""
    if path.is_file():
        return reader.read_tensors(path)
    return meta_llama.read_tensors(path) if meta_llama.is_meta(path) else read_folder(path)


def _restored(checkpoint: Checkpoint, record: dict[str, Any]) -> Checkpoint:
    """Restore the Open-Llama that a LLaMA folder was exported from; see `unfold`.

    Raises:
        CheckpointError: The record in config.json is damaged.
    """
    try:
        config, tensors, note = unfold(checkpoint.config, record, checkpoint.tensors)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint.path}/config.json: the record {RECORD!r} is damaged") from error
    return replace(checkpoint, config=config, tensors=tensors, note=note or "switches as recorded")


def broken(file: Path, error: Exception) -> CheckpointError:
    """Return the one-line error for a checkpoint's `file` on which transformers or torch raised `error`."""
    reason = str(error.args[0]) if isinstance(error, KeyError) else str(error) or type(error).__name__
    if isinstance(error, ZeroDivisionError):
        reason = f"num_attention_heads, or another divisor, is 0 ({reason})"
    elif isinstance(error, TypeError | AttributeError | IndexError):
        reason = f"a value has the wrong type ({reason})"
    elif reason.isidentifier():
        reason = f"{reason!r} is missing or unknown"
    return CheckpointError(f"{file}: {' '.join(reason.split()).removeprefix('config.json: ').rstrip('.')}")


def _from_relative(source: Path, relative: PreTrainedConfig) -> OpenLlamaConfig:
    """Convert the configuration of LLaMA or a relative to the Open-Llama that computes the same.

    Raises:
        CheckpointError: Open-Llama doesn't support a field's value.
    """
    if reason := unsupported(relative):
        native = "; model.architecture=native supports all that transformers does"
        way_out = native if relative.model_type in CONFIG_MAPPING else ""
        raise CheckpointError(f"{source}: {reason}{way_out}")
    return OpenLlamaConfig(**open_llama_fields(relative))


def _renamed(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Add `model.` to all names (except heads') if no name has it, and drop rotary frequencies.

    transformers 4.31 saved the frequencies, which the configuration determines.
    """
    prefix = "" if any(name.startswith("model.") for name in tensors) else "model."
    heads = (HEAD, SCORE)
    return {
        name if name in heads else prefix + name: tensor
        for name, tensor in tensors.items()
        if not name.endswith("rotary_emb.inv_freq")
    }
