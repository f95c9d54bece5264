"""Exports a model for other tools: as a LLaMA folder, an Open-Llama folder, or a GGUF file."""

import copy
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from workbench.config.model import Dtype, ModelConfig, Task
from workbench.config.publishing.export import ExportConfig, ExportFormat
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.contexts import quiet_transformers
from workbench.errors import CheckpointError, ConfigError
from workbench.files import clear_the_way
from workbench.models.adapters.provenance import copy_record
from workbench.models.architecture import native_reason
from workbench.models.checkpoints.checkpoint import SCORE, Checkpoint, read
from workbench.models.checkpoints.generation_config import eos_ids
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.llama_config import llama_config, write_config, write_llama_config
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD, fold
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.checkpoints.validation import fitted
from workbench.models.device import torch_device
from workbench.models.dtypes import chosen_dtype
from workbench.models.gguf import reader
from workbench.models.gguf.writer import MARK, check_describable, write_gguf
from workbench.models.loading import CLASSES
from workbench.models.open_llama import OpenLlamaConfig
from workbench.models.quantization import check_device
from workbench.models.quantized_folder import save_quantized
from workbench.models.stored import Cast, FiniteTensor, Stored
from workbench.models.tokenizers.load_tokenizer import load_tokenizer, read_tokenizer, tokenizer_place
from workbench.run_dir import check_folder, new_folder, part_of, write_json
from workbench.weights.normalized_rows import NormalizedRows

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
TEMPLATES_FOLDER = "additional_chat_templates"
"""Folder of named chat templates in a tokenizer's folder."""
INDEX = "model.safetensors.index.json"
UNQUANTIZED_FOLDER = ".unquantized"
"""Folder within an export's temporary folder that has the model before quantization."""
REPORT = "export_report.json"
"""File that marks a folder as an export, which a later export may replace."""

logger = logging.getLogger("workbench")


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """Format and size of an export."""

    format: str
    """`export.format`, and if weights were quantized the method, as `llama in nf4`."""
    num_tensors: int
    num_bytes: int
    """Size of all tensors in bytes."""
    folded: bool
    """Whether a stable embedding, whose rows a norm normalizes, was replaced by a plain one with
    normalized rows."""


def export(model: ModelConfig, export: ExportConfig, path: Path) -> ExportReport:
    """Write the checkpoint at `model.path` in another format, with its tokenizer.

    After an error nothing is written, and an earlier export stays.

    Args:
        model: Section `model`, of which path, revision, task and tokenizer are used.
        export: Section `export`.
        path: Folder to write, or with gguf the file; an earlier export is replaced.

    Raises:
        ConfigError: Keys contradict each other, or `path` is something other than an export.
        CheckpointError: The checkpoint is damaged or has NaN, or the format doesn't support it.
        DeviceError: The device doesn't support the quantization of the export.
    """
    check_folder("export.path", path.parent if export.is_file else path)
    check_export(model, export, path)
    as_gguf = export.format is ExportFormat["gguf"]
    source = locate(model.path, model.revision)
    checkpoint = read(source)
    tensors = fitted(checkpoint, CLASSES[model.task])
    if model.task is Task.sequence_classification and SCORE not in tensors:
        raise CheckpointError(f"{model.path}: has no {SCORE}, so it is not a trained classifier (train it)")
    is_dequantized = source.is_file() or checkpoint.quantized_by is not None
    if export.dtype is not Dtype.auto or (is_dequantized and not as_gguf):
        dtype = chosen_dtype(export.dtype, checkpoint.dtype)
        tensors = {name: Cast(stored, dtype) for name, stored in tensors.items()}
    elif not as_gguf:
        tensors = {name: _in_stored_dtype(tensor) for name, tensor in tensors.items()}
    folded, record = False, None
    if export.format is not ExportFormat["open-llama"]:
        folded = checkpoint.config.use_stable_embedding
        tensors, record = fold(checkpoint.config, tensors)
    checked = {name: FiniteTensor(f"{model.path}: {name}", stored) for name, stored in tensors.items()}
    written = replace(checkpoint, tensors=checked, record=record)
    size = (_write_file if as_gguf else _write_folder)(model, export, written, path)
    is_whole = export.quantization is QuantizationMethod.none
    name = export.format.value if is_whole else f"{export.format.value} in {export.quantization.value}"
    return ExportReport(format=name, num_tensors=len(tensors), num_bytes=size, folded=folded)


def _in_stored_dtype(tensor: Stored) -> Stored:
    """Return the tensor, converted to its file's dtype if its rows are normalized when it is read.

    The normalization is computed in float32.
    """
    return Cast(tensor, tensor.stored.dtype) if isinstance(tensor, NormalizedRows) else tensor


def check_gguf(model: ModelConfig) -> None:
    """Check that the model can be written as a GGUF file, without reading its weights.

    Raises:
        ConfigError: The model doesn't have LLaMA's architecture, or is a classifier.
        DeviceError: `model.device` is CUDA, which this machine lacks.
        CheckpointError: The model is damaged, or llama.cpp doesn't support it or its tokenizer.
    """
    check_export(model, ExportConfig(format=ExportFormat["gguf"]), Path("model.gguf"))
    config, shapes = gguf_outline(model)
    check_describable(config, _tokenizer(model), shapes[EMBEDDING][0])


def gguf_outline(model: ModelConfig) -> tuple[PreTrainedConfig, dict[str, tuple[int, ...]]]:
    """Return the configuration of the model's GGUF file, and name -> shape of its tensors, which aren't read.

    Raises:
        CheckpointError: The model is damaged, or no relative of LLaMA computes the same.
        ConfigError: `model.path` is not given.
    """
    checkpoint = read(locate(model.path, model.revision))
    tensors, record = fold(checkpoint.config, fitted(checkpoint, CLASSES[model.task]))
    config = _gguf_config(checkpoint.config, record, HEAD in tensors)
    return config, {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_export(model: ModelConfig, export: ExportConfig, path: Path) -> None:
    """Check the configuration of an export, and that at most an earlier export would be replaced at `path`.

    Raises:
        ConfigError, DeviceError: As in `export`.
        CheckpointError: There is no model at `model.path`.
    """
    if model.init:
        raise ConfigError("model.init: a new model has no weights yet (train it: steps=[train,export])")
    if reason := native_reason(model):
        raise ConfigError(
            f"model: only a checkpoint of Open-Llama or LLaMA can be exported ({reason}; "
            "recipe=merge writes a folder that transformers loads, and llama.cpp's converter reads)"
        )
    check_device(QuantizationConfig(method=export.quantization), torch_device(model.device))
    if locate(model.path, model.revision).resolve().is_relative_to(path.resolve()):
        raise ConfigError(
            f"export.path: {str(path)!r} is the model itself, or contains it (name another folder)"
        )
    if not export.is_file:
        if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / REPORT).is_file()):
            raise ConfigError(f"export.path: {str(path)!r} is not an earlier export (name a new folder)")
        return
    if path.suffix != ".gguf" or path.is_dir():
        raise ConfigError(f"export.path: {str(path)!r} is not a file name ending in .gguf")
    if export.path is not None and os.path.lexists(path) and not _is_export(path):
        raise ConfigError(f"export.path: {str(path)!r} is not an earlier export (name a new file)")
    if model.task is not Task.causal_lm:
        raise ConfigError(
            f"export.format: {export.format.value} doesn't support classifiers (use llama or open-llama)"
        )


def _is_export(file: Path) -> bool:
    """Return whether a file is a GGUF file that an export wrote, by a key in its metadata."""
    if file.is_symlink() or not file.is_file():
        return False
    try:
        return MARK in reader.read_fields(file)
    except CheckpointError:
        return False


def _write_folder(model: ModelConfig, export: ExportConfig, checkpoint: Checkpoint, path: Path) -> int:
    """Write the exported model's folder; return the size of its tensors in bytes."""
    config, tensors = checkpoint.config, checkpoint.tensors
    config.dtype, config.architectures = tensors[EMBEDDING].dtype, [CLASSES[model.task].__name__]
    with new_folder(path) as temporary, quiet_transformers():
        is_whole = export.quantization is QuantizationMethod.none
        plain = temporary if is_whole else temporary / UNQUANTIZED_FOLDER
        plain.mkdir(exist_ok=True)
        if checkpoint.record is None:
            write_config(config, plain)
        else:
            write_llama_config(model, config, checkpoint.record, HEAD in tensors, config.dtype, plain)
        if checkpoint.generation is not None:
            checkpoint.generation.save_pretrained(plain)
        size = write_weights(tensors, plain, export.max_shard_size)
        if not is_whole:
            section, device = QuantizationConfig(method=export.quantization), torch_device(model.device)
            size = save_quantized(plain, temporary, model.task, section, device, export.max_shard_size)
            shutil.rmtree(plain)
        _write_tokenizer(model, temporary)
        copy_record(locate(model.path, model.revision), temporary)
        described = {"format": export.format.value, "quantization": export.quantization.value}
        write_json(temporary / REPORT, {"schema_version": 1, **described})
    return size


def _write_file(model: ModelConfig, export: ExportConfig, checkpoint: Checkpoint, path: Path) -> int:
    """Write the GGUF file under a temporary name, then rename it; return the size of its tensors in bytes."""
    tokenizer, tensors = _tokenizer(model), checkpoint.tensors
    config = _gguf_config(checkpoint.config, checkpoint.record or {}, HEAD in tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = clear_the_way(part_of(path))
    try:
        size = write_gguf(
            temporary, config, tensors, tokenizer, export.number_type, eos_ids(checkpoint.generation)
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if (window := checkpoint.config.sliding_window) is not None:
        logger.warning(
            f"GGUF's {config.model_type} has no sliding window: in llama.cpp, texts of more than {window:,} "
            "tokens get other answers"
        )
    return size


def _gguf_config(config: OpenLlamaConfig, record: dict[str, Any], has_head: bool) -> PreTrainedConfig:
    """Return the configuration of a GGUF file, whose LLaMA and Qwen have no windows; see `llama_config`."""
    whole = copy.copy(config)
    whole.sliding_window = whole.layer_types = None
    return llama_config(whole, record, has_head)


def write_weights(tensors: Mapping[str, Stored], folder: Path, max_shard_size: str) -> int:
    """Write tensors, by name, as safetensors with one shard in memory at a time; return their size in bytes.

    `max_shard_size` is the largest size of a file, such as `4GB`; several files get an index.
    """
    shapes = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta") for name, tensor in tensors.items()
    }
    plan = split_torch_state_dict_into_shards(shapes, max_shard_size=max_shard_size)
    for file, names in plan.filename_to_tensors.items():
        save_file({name: tensors[name][...].contiguous() for name in names}, folder / file, {"format": "pt"})
    if plan.is_sharded:
        weight_map = dict(sorted(plan.tensor_to_filename.items()))
        write_json(folder / INDEX, {"metadata": plan.metadata, "weight_map": weight_map})
    return sum(tensor.numel() * tensor.element_size() for tensor in shapes.values())


def _write_tokenizer(model: ModelConfig, folder: Path) -> None:
    """Copy the tokenizer's files; if there is none, log a warning.

    If the tokenizer is in a GGUF or other single file, has its own code or gets a padding token, it is loaded
    and saved instead.
    """
    source = tokenizer_place(model)
    settings = source / "tokenizer_config.json"
    has_code = settings.is_file() and "auto_map" in read_json_object(settings)
    if source.is_file() or model.pad_token or has_code:
        _tokenizer(model).save_pretrained(folder)
        return
    if (source / TEMPLATES_FOLDER).is_dir():
        shutil.copytree(source / TEMPLATES_FOLDER, folder / TEMPLATES_FOLDER)
    files = [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    for file in files:
        shutil.copyfile(file, folder / file.name)
    if not files:
        logger.warning(f"{source}: has no tokenizer, so {folder.name} is exported without one")


def _tokenizer(model: ModelConfig) -> PreTrainedTokenizerFast:
    """Read the tokenizer; only if `model.pad_token` is set, give it that padding token."""
    return load_tokenizer(model) if model.pad_token else read_tokenizer(tokenizer_place(model))
